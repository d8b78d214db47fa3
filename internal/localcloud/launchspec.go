package localcloud

import (
	"maps"
	"slices"
	"time"
)

// A LaunchSpec says how an instance is to be made. A launch, a version of a
// launch template, an override of a fleet and a spot request each hold one;
// what is zero or nil in it was not said.
type LaunchSpec struct {
	ImageID           string                `json:"image_id,omitempty"`
	Type              string                `json:"type,omitempty"`
	KeyName           string                `json:"key_name,omitempty"`
	KernelID          string                `json:"kernel_id,omitempty"`
	RamdiskID         string                `json:"ramdisk_id,omitempty"`
	UserData          []byte                `json:"user_data,omitempty"` // decoded
	SecurityGroupIDs  []string              `json:"security_group_ids,omitempty"`
	SecurityGroups    []string              `json:"security_groups,omitempty"` // names
	SubnetID          string                `json:"subnet_id,omitempty"`
	PrivateIP         string                `json:"private_ip,omitempty"`
	Interfaces        []LaunchInterface     `json:"interfaces,omitempty"`
	Devices           []LaunchDevice        `json:"devices,omitempty"`
	Placement         *LaunchPlacement      `json:"placement,omitempty"`
	ProfileARN        string                `json:"profile_arn,omitempty"`
	ProfileName       string                `json:"profile_name,omitempty"`
	Monitoring        *bool                 `json:"monitoring,omitempty"`
	EBSOptimized      *bool                 `json:"ebs_optimized,omitempty"`
	NoAPITermination  *bool                 `json:"no_api_termination,omitempty"` // DisableApiTermination
	NoAPIStop         *bool                 `json:"no_api_stop,omitempty"`        // DisableApiStop
	ShutdownBehavior  string                `json:"shutdown_behavior,omitempty"`
	Metadata          *MetadataOptions      `json:"metadata,omitempty"`
	Credits           string                `json:"credits,omitempty"`
	Market            *LaunchMarket         `json:"market,omitempty"`
	Hibernation       *bool                 `json:"hibernation,omitempty"`
	Enclave           *bool                 `json:"enclave,omitempty"`
	Capacity          *LaunchCapacity       `json:"capacity,omitempty"`
	Licenses          []string              `json:"licenses,omitempty"` // ARNs of license configurations
	CPU               *LaunchCPU            `json:"cpu,omitempty"`
	AutoRecovery      string                `json:"auto_recovery,omitempty"` // default disabled
	HostnameType      string                `json:"hostname_type,omitempty"` // ip-name resource-name
	ResourceNameDNS   bool                  `json:"resource_name_dns,omitempty"`
	ResourceNameDNSv6 bool                  `json:"resource_name_dns_v6,omitempty"`
	Tags              map[string]Tags       `json:"tags,omitempty"` // by type of resource
	Template          *LaunchTemplateChoice `json:"template,omitempty"`
}

// A LaunchTemplateChoice names a version of a launch template.
type LaunchTemplateChoice struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"` // a number, $Latest, $Default, "" for the default
}

// A LaunchDevice is a block device mapping of a launch; it changes or adds to
// those of the image.
type LaunchDevice struct {
	Device  string        `json:"device"`
	Volume  *LaunchVolume `json:"volume,omitempty"`
	Virtual string        `json:"virtual,omitempty"` // "ephemeral0"
	None    bool          `json:"none,omitempty"`    // NoDevice
}

// A LaunchVolume is what a [LaunchDevice] says of an EBS volume.
type LaunchVolume struct {
	SnapshotID          string `json:"snapshot_id,omitempty"`
	SizeGiB             int64  `json:"size_gib,omitempty"`
	Type                string `json:"type,omitempty"`
	IOPS                int64  `json:"iops,omitempty"`
	Throughput          int64  `json:"throughput,omitempty"`
	InitializationRate  int64  `json:"initialization_rate,omitempty"` // MiB/s
	Encrypted           *bool  `json:"encrypted,omitempty"`
	KMSKeyID            string `json:"kms_key_id,omitempty"`
	DeleteOnTermination *bool  `json:"delete_on_termination,omitempty"`
}

// A LaunchInterface is a network interface of a launch. Only the primary one
// is offered: device index 0.
type LaunchInterface struct {
	Index               int      `json:"index,omitempty"`
	SubnetID            string   `json:"subnet_id,omitempty"`
	Description         string   `json:"description,omitempty"`
	PrivateIP           string   `json:"private_ip,omitempty"`
	SecurityGroupIDs    []string `json:"security_group_ids,omitempty"`
	PublicIP            *bool    `json:"public_ip,omitempty"` // AssociatePublicIpAddress
	DeleteOnTermination *bool    `json:"delete_on_termination,omitempty"`
	InterfaceID         string   `json:"interface_id,omitempty"`
	Kind                string   `json:"kind,omitempty"` // interface efa
}

// LaunchPlacement says where an instance is to be.
type LaunchPlacement struct {
	Zone              string `json:"zone,omitempty"`
	ZoneID            string `json:"zone_id,omitempty"`
	Tenancy           string `json:"tenancy,omitempty"`
	Group             string `json:"group,omitempty"`
	GroupID           string `json:"group_id,omitempty"`
	Host              string `json:"host,omitempty"`
	HostResourceGroup string `json:"host_resource_group,omitempty"`
	Affinity          string `json:"affinity,omitempty"`
	Partition         int    `json:"partition,omitempty"`
}

// LaunchMarket are InstanceMarketOptions.
type LaunchMarket struct {
	Type          string    `json:"type,omitempty"` // spot capacity-block
	MaxPrice      string    `json:"max_price,omitempty"`
	SpotType      string    `json:"spot_type,omitempty"` // one-time persistent
	Interruption  string    `json:"interruption,omitempty"`
	BlockDuration int       `json:"block_duration,omitempty"`
	ValidUntil    time.Time `json:"valid_until,omitzero"`
}

// LaunchCapacity is a CapacityReservationSpecification.
type LaunchCapacity struct {
	Preference string `json:"preference,omitempty"` // open none capacity-reservations-only
	ID         string `json:"id,omitempty"`
	GroupARN   string `json:"group_arn,omitempty"`
}

// LaunchCPU are CpuOptions.
type LaunchCPU struct {
	Cores   int    `json:"cores,omitempty"`
	Threads int    `json:"threads,omitempty"`
	SEVSNP  string `json:"sev_snp,omitempty"`
}

// Over returns s with what it leaves open taken from base. Each parameter
// replaces the whole one of base; placements and tags are joined. A subnet or
// security groups without an interface replace those of base's interface.
func (s LaunchSpec) Over(base LaunchSpec) LaunchSpec {
	out := s
	out.ImageID = or(s.ImageID, base.ImageID)
	out.Type = or(s.Type, base.Type)
	out.KeyName = or(s.KeyName, base.KeyName)
	out.KernelID = or(s.KernelID, base.KernelID)
	out.RamdiskID = or(s.RamdiskID, base.RamdiskID)
	out.UserData = orList(s.UserData, base.UserData)
	// The three ways to say where and behind which groups replace each other.
	if len(s.Interfaces) == 0 && s.SubnetID == "" {
		out.SubnetID = base.SubnetID
		if len(s.SecurityGroupIDs) == 0 && len(s.SecurityGroups) == 0 {
			out.Interfaces = base.Interfaces
		} else {
			out.Interfaces = slices.Clone(base.Interfaces)
			if len(out.Interfaces) > 0 {
				out.Interfaces[0].SecurityGroupIDs = s.SecurityGroupIDs
				out.SecurityGroupIDs = nil
			}
		}
	} else if len(s.Interfaces) == 0 && len(base.Interfaces) > 0 {
		out.Interfaces = slices.Clone(base.Interfaces)
		out.Interfaces[0].SubnetID = s.SubnetID
		out.Interfaces[0].SecurityGroupIDs = orList(s.SecurityGroupIDs, base.Interfaces[0].SecurityGroupIDs)
		out.SubnetID, out.SecurityGroupIDs = "", nil
	}
	if len(out.Interfaces) == 0 && len(s.SecurityGroupIDs) == 0 && len(s.SecurityGroups) == 0 {
		out.SecurityGroupIDs, out.SecurityGroups = base.SecurityGroupIDs, base.SecurityGroups
	}
	out.PrivateIP = or(s.PrivateIP, base.PrivateIP)
	out.Devices = orList(s.Devices, base.Devices)
	out.Placement = s.Placement.over(base.Placement)
	if s.ProfileARN == "" && s.ProfileName == "" {
		out.ProfileARN, out.ProfileName = base.ProfileARN, base.ProfileName
	}
	out.Monitoring = or(s.Monitoring, base.Monitoring)
	out.EBSOptimized = or(s.EBSOptimized, base.EBSOptimized)
	out.NoAPITermination = or(s.NoAPITermination, base.NoAPITermination)
	out.NoAPIStop = or(s.NoAPIStop, base.NoAPIStop)
	out.ShutdownBehavior = or(s.ShutdownBehavior, base.ShutdownBehavior)
	out.Metadata = or(s.Metadata, base.Metadata)
	out.Credits = or(s.Credits, base.Credits)
	out.Market = or(s.Market, base.Market)
	out.Hibernation = or(s.Hibernation, base.Hibernation)
	out.Enclave = or(s.Enclave, base.Enclave)
	out.Capacity = or(s.Capacity, base.Capacity)
	out.Licenses = orList(s.Licenses, base.Licenses)
	out.CPU = or(s.CPU, base.CPU)
	out.AutoRecovery = or(s.AutoRecovery, base.AutoRecovery)
	out.HostnameType = or(s.HostnameType, base.HostnameType)
	out.ResourceNameDNS = s.ResourceNameDNS || base.ResourceNameDNS
	out.ResourceNameDNSv6 = s.ResourceNameDNSv6 || base.ResourceNameDNSv6
	out.Tags = map[string]Tags{}
	for kind, tags := range base.Tags {
		out.Tags[kind] = tags.Clone()
	}
	for kind, tags := range s.Tags {
		if out.Tags[kind] == nil {
			out.Tags[kind] = Tags{}
		}
		maps.Copy(out.Tags[kind], tags)
	}
	return out
}

// over joins a placement with one below it. A zone is given by name or by id.
func (p *LaunchPlacement) over(base *LaunchPlacement) *LaunchPlacement {
	if p == nil || base == nil {
		return or(p, base)
	}
	out := LaunchPlacement{
		Zone: p.Zone, ZoneID: p.ZoneID, Tenancy: or(p.Tenancy, base.Tenancy), Group: or(p.Group, base.Group),
		GroupID: or(p.GroupID, base.GroupID), Host: or(p.Host, base.Host), HostResourceGroup: or(p.HostResourceGroup, base.HostResourceGroup),
		Affinity: or(p.Affinity, base.Affinity), Partition: or(p.Partition, base.Partition),
	}
	if out.Zone == "" && out.ZoneID == "" {
		out.Zone, out.ZoneID = base.Zone, base.ZoneID
	}
	return &out
}

// or is the first value that is not zero.
func or[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

func orList[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}
