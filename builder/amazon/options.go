package amazon

import (
	"time"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator"
)

// Access and Comm are embedded beside each other in one struct.
type (
	// Access is the options that say where AWS is and who asks.
	Access = awsaccess.Config
	// Comm is the options of the connection to the guest.
	Comm = communicator.Config
)

// EBSConfig is the options of "amazon-ebs". Names, types and defaults are
// Packer's, except where a comment says otherwise.
type EBSConfig struct {
	_ struct{} `hcl:",late"` // a renderer of this package fills the {{ }} in

	Access
	Comm
	RunOptions
	ImageOptions

	SkipCreateAMI       bool          `hcl:"skip_create_ami"`
	AMIMappings         []BlockDevice `hcl:"ami_block_device_mappings,block"`
	LaunchMappings      []BlockDevice `hcl:"launch_block_device_mappings,block"`
	NoEphemeral         bool          `hcl:"no_ephemeral"`
	FastLaunch          *FastLaunch   `hcl:"fast_launch,block"`
	RunVolumeTags       Tags          `hcl:"run_volume_tags"`
	RunVolumeTagEntries []NameValue   `hcl:"run_volume_tag,block"`
}

// SurrogateConfig is the options of "amazon-ebssurrogate".
type SurrogateConfig struct {
	_ struct{} `hcl:",late"` // a renderer of this package fills the {{ }} in

	Access
	Comm
	RunOptions
	ImageOptions

	RootDevice          RootDevice          `hcl:"ami_root_device,block"`
	AMIMappings         []BlockDevice       `hcl:"ami_block_device_mappings,block"`
	LaunchMappings      []LaunchBlockDevice `hcl:"launch_block_device_mappings,block"`
	RunVolumeTags       Tags                `hcl:"run_volume_tags"`
	RunVolumeTagEntries []NameValue         `hcl:"run_volume_tag,block"`
	Architecture        string              `hcl:"ami_architecture"` // unset: the source image's, where Packer takes x86_64
	BootMode            string              `hcl:"boot_mode"`
	UEFIData            string              `hcl:"uefi_data"`
	TPMSupport          string              `hcl:"tpm_support"`
	UseCreateImage      bool                `hcl:"use_create_image"`
	SnapshotDescription string              `hcl:"snapshot_description"`
}

// VolumeConfig is the options of "amazon-ebsvolume".
type VolumeConfig struct {
	_ struct{} `hcl:",late"` // a renderer of this package fills the {{ }} in

	Access
	Comm
	RunOptions

	Volumes             []Volume   `hcl:"ebs_volumes,block"`
	ENASupport          *bool      `hcl:"ena_support"`
	SRIOVSupport        bool       `hcl:"sriov_support"`
	RunVolumeTags       Tags       `hcl:"run_volume_tags"`
	RunVolumeTagEntries []KeyValue `hcl:"run_volume_tag,block"` // key/value here, name/value in the other two builders
}

// Tags are names and values; the values are rendered when the source image is
// known.
type Tags = map[string]string

// KeyValue is a block with one tag.
type KeyValue struct {
	Key   string `hcl:"key"`
	Value string `hcl:"value"`
}

// NameValue is a block with one name and value.
type NameValue struct {
	Name  string `hcl:"name"`
	Value string `hcl:"value"`
}

// RunOptions say what the source instance is.
type RunOptions struct {
	SourceAMI       string     `hcl:"source_ami"`
	SourceAMIFilter *AMIFilter `hcl:"source_ami_filter,block"`
	InstanceType    string     `hcl:"instance_type"`

	// InstanceTypes are tried in order, in every zone, while AWS has no
	// capacity. Not an option of Packer.
	InstanceTypes []string `hcl:"instance_types"`
	// SpotFallback goes on with an on-demand instance when there is no spot
	// capacity. Not an option of Packer.
	SpotFallback bool `hcl:"spot_fallback"`
	// DeadMan is how long after the connection the instance shuts itself down
	// by a timer in the guest, in case nobody is left to end it. 0: some time
	// after the build's own deadline, and never where it has none. The timer is
	// in memory only and is taken away before the image is made. Not
	// an option of Packer.
	DeadMan time.Duration `hcl:"dead_man"`
	// SSHHostKeyCheck says whether the guest must show a host key that it
	// printed on its console. Unset: when it printed one in time, else the
	// first key that is seen is held on to. Not an option of Packer.
	SSHHostKeyCheck *bool `hcl:"ssh_host_key_check"`

	VPCID               string         `hcl:"vpc_id"`
	VPCFilter           *Filter        `hcl:"vpc_filter,block"`
	SubnetID            string         `hcl:"subnet_id"`
	SubnetFilter        *SubnetFilter  `hcl:"subnet_filter,block"`
	SecurityGroupID     string         `hcl:"security_group_id"`
	SecurityGroupIDs    []string       `hcl:"security_group_ids"`
	SecurityGroupFilter *Filter        `hcl:"security_group_filter,block"`
	GroupSourceCIDRs    []string       `hcl:"temporary_security_group_source_cidrs"`
	GroupSourcePublicIP bool           `hcl:"temporary_security_group_source_public_ip"`
	AssociatePublicIP   *bool          `hcl:"associate_public_ip_address"`
	AvailabilityZone    string         `hcl:"availability_zone"`
	InstanceProfile     string         `hcl:"iam_instance_profile"`
	SkipProfileCheck    bool           `hcl:"skip_profile_validation"`
	ProfilePolicy       *Policy        `hcl:"temporary_iam_instance_profile_policy_document,block"`
	RunTags             Tags           `hcl:"run_tags"`
	RunTagEntries       []KeyValue     `hcl:"run_tag,block"`
	UserData            string         `hcl:"user_data"`
	UserDataFile        string         `hcl:"user_data_file"`
	Interface           string         `hcl:"ssh_interface"`
	Metadata            *Metadata      `hcl:"metadata_options,block"`
	EBSOptimized        bool           `hcl:"ebs_optimized"`
	Enclave             bool           `hcl:"enable_nitro_enclave"`
	T2Unlimited         bool           `hcl:"enable_t2_unlimited"` // deprecated name
	UnlimitedCredits    bool           `hcl:"enable_unlimited_credits"`
	DisableStop         bool           `hcl:"disable_stop_instance"`
	ShutdownBehavior    string         `hcl:"shutdown_behavior"`
	Licenses            []License      `hcl:"license_specifications,block"`
	Placement           *PlacementOpts `hcl:"placement,block"`
	Tenancy             string         `hcl:"tenancy"` // deprecated, see placement
	WindowsTimeout      time.Duration  `hcl:"windows_password_timeout"`
	PauseBeforeSSM      time.Duration  `hcl:"pause_before_ssm"`
	SessionPort         int            `hcl:"session_manager_port"`

	SpotPrice        string     `hcl:"spot_price"`
	SpotTypes        []string   `hcl:"spot_instance_types"`
	SpotStrategy     string     `hcl:"spot_allocation_strategy"`
	SpotAutoProduct  string     `hcl:"spot_price_auto_product"` // deprecated, without effect
	BlockDuration    int        `hcl:"block_duration_minutes"`  // deprecated, without effect
	SpotTags         Tags       `hcl:"spot_tags"`
	SpotTagEntries   []KeyValue `hcl:"spot_tag,block"`
	FleetTags        Tags       `hcl:"fleet_tags"`
	FleetTagEntries  []KeyValue `hcl:"fleet_tag,block"`
	CapacityPref     string     `hcl:"capacity_reservation_preference"`
	CapacityID       string     `hcl:"capacity_reservation_id"`
	CapacityGroupARN string     `hcl:"capacity_reservation_group_arn"`

	autoKey bool // the type of the temporary key was left open
}

// ImageOptions say what the image becomes.
type ImageOptions struct {
	AMIName            string     `hcl:"ami_name"`
	Description        string     `hcl:"ami_description"`
	Virtualization     string     `hcl:"ami_virtualization_type"`
	Users              []string   `hcl:"ami_users"`
	Groups             []string   `hcl:"ami_groups"`
	OrgARNs            []string   `hcl:"ami_org_arns"`
	OUARNs             []string   `hcl:"ami_ou_arns"`
	ProductCodes       []string   `hcl:"ami_product_codes"`
	Regions            []string   `hcl:"ami_regions"`
	SkipRegionCheck    bool       `hcl:"skip_region_validation"`
	SkipRunTags        bool       `hcl:"skip_ami_run_tags"`
	ImageTags          Tags       `hcl:"tags"`
	ImageTagEntries    []KeyValue `hcl:"tag,block"`
	SnapshotTags       Tags       `hcl:"snapshot_tags"`
	SnapshotTagEntries []KeyValue `hcl:"snapshot_tag,block"`
	ENASupport         *bool      `hcl:"ena_support"`
	SRIOVSupport       bool       `hcl:"sriov_support"`
	ForceDeregister    bool       `hcl:"force_deregister"`
	ForceDelete        bool       `hcl:"force_delete_snapshot"`
	EncryptBoot        *bool      `hcl:"encrypt_boot"`
	KMSKey             string     `hcl:"kms_key_id"`
	RegionKMSKeys      Tags       `hcl:"region_kms_key_ids"`
	SkipBuildRegion    bool       `hcl:"skip_save_build_region"`
	IMDSSupport        string     `hcl:"imds_support"`
	DeprecateAt        string     `hcl:"deprecate_at"`
	SnapshotUsers      []string   `hcl:"snapshot_users"`
	SnapshotGroups     []string   `hcl:"snapshot_groups"`
	CopyMinutes        int        `hcl:"snapshot_copy_duration_minutes"`
	Protection         Protection `hcl:"deregistration_protection,block"`
}

// AMIFilter chooses the source image.
type AMIFilter struct {
	Filters           map[string]string `hcl:"filters"`
	Owners            []string          `hcl:"owners"`
	MostRecent        bool              `hcl:"most_recent"`
	IncludeDeprecated bool              `hcl:"include_deprecated"`
}

// Filter chooses things by name and value.
type Filter struct {
	Filters map[string]string `hcl:"filters"`
	Filter  []NameValue       `hcl:"filter,block"`
}

// SubnetFilter chooses a subnet.
type SubnetFilter struct {
	Filters  map[string]string `hcl:"filters"`
	Filter   []NameValue       `hcl:"filter,block"`
	MostFree bool              `hcl:"most_free"`
	Random   bool              `hcl:"random"`
}

// Metadata is how the instance is told about itself.
type Metadata struct {
	Endpoint string `hcl:"http_endpoint"`
	Tokens   string `hcl:"http_tokens"`
	HopLimit int    `hcl:"http_put_response_hop_limit"`
	Tags     string `hcl:"instance_metadata_tags"`
}

// PlacementOpts is where the instance runs.
type PlacementOpts struct {
	HostGroupARN string `hcl:"host_resource_group_arn"`
	HostID       string `hcl:"host_id"`
	Tenancy      string `hcl:"tenancy"`
}

// License is one licence configuration.
type License struct {
	Request LicenseRequest `hcl:"license_configuration_request,block"`
}

// LicenseRequest names a licence configuration.
type LicenseRequest struct {
	ARN string `hcl:"license_configuration_arn"`
}

// Policy is what the temporary instance profile may do.
type Policy struct {
	Version    string      `hcl:"Version"`
	Statements []Statement `hcl:"Statement,block"`
}

// Statement is one part of a [Policy].
type Statement struct {
	Action   []string `hcl:"Action"`
	Effect   string   `hcl:"Effect"`
	Resource []string `hcl:"Resource"`
}

// Protection keeps the image from being deregistered.
type Protection struct {
	Enabled      bool `hcl:"enabled"`
	WithCooldown bool `hcl:"with_cooldown"`
}

// BlockDevice is one disk.
type BlockDevice struct {
	DeviceName          string `hcl:"device_name"`
	Size                int    `hcl:"volume_size"` // GiB
	Type                string `hcl:"volume_type"`
	IOPS                int    `hcl:"iops"`
	Throughput          int    `hcl:"throughput"` // MiB/s
	Encrypted           *bool  `hcl:"encrypted"`
	KMSKey              string `hcl:"kms_key_id"`
	SnapshotID          string `hcl:"snapshot_id"`
	DeleteOnTermination bool   `hcl:"delete_on_termination"`
	NoDevice            bool   `hcl:"no_device"`
	VirtualName         string `hcl:"virtual_name"`
}

// LaunchBlockDevice is a disk of the instance of "amazon-ebssurrogate".
type LaunchBlockDevice struct {
	BlockDevice
	Omit bool `hcl:"omit_from_artifact"`
}

// RootDevice is the disk that becomes the root of the image.
type RootDevice struct {
	Source              string `hcl:"source_device_name"`
	DeviceName          string `hcl:"device_name"`
	DeleteOnTermination bool   `hcl:"delete_on_termination"`
	IOPS                int    `hcl:"iops"`
	Type                string `hcl:"volume_type"`
	Size                int    `hcl:"volume_size"`
	Throughput          int    `hcl:"throughput"`
}

// Volume is a disk that "amazon-ebsvolume" makes.
type Volume struct {
	BlockDevice
	Tags                Tags       `hcl:"tags"`
	TagEntries          []KeyValue `hcl:"tag,block"`
	Snapshot            bool       `hcl:"snapshot_volume"`
	SnapshotDescription string     `hcl:"snapshot_description"`
	SnapshotTags        Tags       `hcl:"snapshot_tags"`
	SnapshotTagEntries  []KeyValue `hcl:"snapshot_tag,block"`
	SnapshotUsers       []string   `hcl:"snapshot_users"`
	SnapshotGroups      []string   `hcl:"snapshot_groups"`
}

// FastLaunch prepares a Windows image to start faster.
type FastLaunch struct {
	Enable          bool                 `hcl:"enable_fast_launch"`
	TemplateID      string               `hcl:"template_id"`
	TemplateName    string               `hcl:"template_name"`
	TemplateVersion int                  `hcl:"template_version"` // 0: the latest
	MaxParallel     int                  `hcl:"max_parallel_launches"`
	TargetCount     int                  `hcl:"target_resource_count"`
	Regions         []FastLaunchInRegion `hcl:"region_launch_templates,block"`
}

// FastLaunchInRegion is [FastLaunch] where a region differs.
type FastLaunchInRegion struct {
	Region          string `hcl:"region"`
	Enable          *bool  `hcl:"enable_fast_launch"`
	TemplateID      string `hcl:"template_id"`
	TemplateName    string `hcl:"template_name"`
	TemplateVersion int    `hcl:"template_version"`
}
