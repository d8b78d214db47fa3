package localcloud

import (
	"maps"
	"time"
)

// Tags are key and value pairs of a resource.
type Tags map[string]string

// Clone returns a copy that is never nil.
func (t Tags) Clone() Tags {
	out := Tags{}
	maps.Copy(out, t)
	return out
}

// A VolumeSpec is what a block device mapping says of an EBS volume. Zero
// values: as the snapshot, or the default.
type VolumeSpec struct {
	SnapshotID          string `json:"snapshot_id,omitempty"`
	SizeGiB             int64  `json:"size_gib,omitempty"`
	Type                string `json:"type,omitempty"` // gp3, gp2, io1, io2, st1, sc1, standard
	IOPS                int64  `json:"iops,omitempty"`
	Throughput          int64  `json:"throughput,omitempty"`
	Encrypted           bool   `json:"encrypted,omitempty"`
	KMSKeyID            string `json:"kms_key_id,omitempty"`
	DeleteOnTermination bool   `json:"delete_on_termination,omitempty"`
}

// A DeviceMapping is one block device of an image or of a launch.
type DeviceMapping struct {
	Device  string      `json:"device"`
	Volume  *VolumeSpec `json:"volume,omitempty"`
	Virtual string      `json:"virtual,omitempty"` // "ephemeral0"
	None    bool        `json:"none,omitempty"`    // NoDevice
}

// An Image is an AMI.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html
type Image struct {
	ID, Name, Description       string
	Owner, OwnerAlias           string // account; "amazon", "self" is decided by the asker
	Location                    string
	State                       string // pending available failed deregistered disabled invalid transient error
	Reason                      string // of a failure, "Code: message"
	Arch, Virtualization        string
	BootMode, TPMSupport        string
	IMDSSupport                 string
	UEFIData                    string
	ENA                         bool
	SriovNet                    string // "simple" or ""
	RootDevice                  string
	Devices                     []DeviceMapping
	Public                      bool
	LaunchUsers, LaunchGroups   []string
	LaunchOrgs, LaunchOUs       []string
	ProductCodes                []string
	Platform                    string // "windows" or ""
	Created                     time.Time
	Ready                       time.Time // not available before
	Deprecated                  time.Time // zero: not
	LastLaunched                time.Time
	Protected                   string    // "", "disabled", "enabled-with-cooldown", "enabled-without-cooldown"
	ProtectedUntil              time.Time // the end of the cooldown
	Transitioned                time.Time // into deregistered
	SourceInstance, SourceImage string
	SourceImageRegion           string
	Tags                        Tags
}

// RecordKind implements [Record].
func (Image) RecordKind() string { return "image" }

// RecordID implements [Record].
func (i Image) RecordID() string { return i.ID }

// A Snapshot is an EBS snapshot: the content of one disk at one time.
type Snapshot struct {
	ID, Description, Owner string
	VolumeID               string // "vol-ffffffff" for those without
	SizeGiB                int64
	State                  string // pending completed error recoverable
	StateMessage           string
	Progress               int    // percent
	Layer                  string // digest in the image store, "" until completed
	Parent                 string // snapshot id, for uploads with a parent
	Upload                 string // id of an upload under way in the image store
	UploadBase             string // digest of what the upload is over
	UploadMinutes          int64  // it is given up when no block arrives for so long
	UploadDone             bool   // it takes no more blocks
	Encrypted              bool
	KMSKeyID               string
	Started, Completed     time.Time
	Ready                  time.Time // not completed before
	Quiet                  bool      // its volume is not written to until Layer is known
	Frozen                 bool      // its content waits in a file of its own until Layer is known
	Copied                 bool      // of another snapshot: Layer is known, and verified when it completes
	SourceRegion           string    // of a copy
	Source                 string    // snapshot id, of a copy
	Users, Groups          []string  // who may create volumes
	Tags                   Tags
}

// RecordKind implements [Record].
func (Snapshot) RecordKind() string { return "snapshot" }

// RecordID implements [Record].
func (s Snapshot) RecordID() string { return s.ID }

// A Volume is an EBS volume: a writable disk, the overlay volumes/ID.qcow2 in
// the cloud's folder over the layer of its snapshot.
type Volume struct {
	ID, SnapshotID, Zone string
	State                string     // creating available in-use deleting error
	Spec                 VolumeSpec // SizeGiB, Type, IOPS, Throughput, Encrypted, KMSKeyID as in effect
	Instance, Device     string
	AttachState          string // attaching attached detaching ""
	AttachedAt           time.Time
	DeleteOnTermination  bool
	AutoEnableIO         bool   // an attribute: nothing comes of it
	Layer                string // what its disk is an overlay of, "" for a blank one
	Created              time.Time
	Tags                 Tags
}

// RecordKind implements [Record].
func (Volume) RecordKind() string { return "volume" }

// RecordID implements [Record].
func (v Volume) RecordID() string { return v.ID }

// An Instance is a machine.
type Instance struct {
	ID, Reservation, ImageID string
	Type, Arch               string
	Virtualization, BootMode string
	TPM                      bool
	State                    string // pending running stopping stopped shutting-down terminated
	StateCode, StateReason   string // why it changed, e.g. "Client.UserInitiatedShutdown"
	Index                    int    // ami-launch-index
	KeyName                  string
	PublicKey                string // line of authorized_keys
	UserData                 []byte
	Zone, Subnet, VPC        string
	Interface                NetworkInterface
	PrivateIP, PublicIP      string // PublicIP: loopback address that reaches it, "" for none
	SSHPort                  int    // 22, another where this process may not listen on 22
	SecurityGroups           []string
	Profile                  string // name of the IAM instance profile
	Devices                  []InstanceDevice
	RootDevice               string
	ShutdownBehavior         string // stop terminate
	APITermination, APIStop  bool   // disabled
	EBSOptimized, ENA        bool
	SriovNet                 string
	SourceDestCheck          bool
	Monitoring               bool
	Tenancy                  string
	Credits                  string // standard unlimited
	Lifecycle                string // "" or "spot"
	SpotRequest              string
	SpotType                 string // of its request: one-time persistent
	Metadata                 MetadataOptions
	Enclave                  bool
	LaunchTemplate           string
	Fleet                    string
	Launched                 time.Time
	Transitioned             time.Time // into State
	Token                    string
	Machine                  []byte // identity of its process, as the machine driver gave it
	Address                  string // where its machine's ports are
	Started                  bool   // it has run
	ForceStop                bool   // its stop does not wait for the guest
	Rebooting                bool   // its machine may be off for a moment
	Public                   bool   // gets a public address whenever it starts
	Platform                 string // "windows" or ""
	Host                     Placement
	Capacity                 LaunchCapacity
	Licenses                 []string
	CPU                      LaunchCPU
	AutoRecovery             string // default disabled
	HostnameType             string // ip-name resource-name
	ResourceNameDNS          bool
	ResourceNameDNSv6        bool
	Password                 []byte // of Windows, encrypted with the key pair
	Tags                     Tags
}

// RecordKind implements [Record].
func (Instance) RecordKind() string { return "instance" }

// RecordID implements [Record].
func (i Instance) RecordID() string { return i.ID }

// An InstanceDevice is a volume attached to an instance.
type InstanceDevice struct {
	Device, Volume      string
	Attached            time.Time
	DeleteOnTermination bool
}

// Placement is what an instance remembers of where it was to be.
type Placement struct {
	Group, Affinity string
	Partition       int
}

// MetadataOptions is how the instance's metadata is served.
type MetadataOptions struct {
	Endpoint string // enabled disabled
	Tokens   string // optional required
	HopLimit int
	Tags     string // enabled disabled
}

// A NetworkInterface is the primary one of an instance.
type NetworkInterface struct {
	ID, MAC, Attachment, Description string
	Tags                             Tags
}

// A VPC is a virtual network.
type VPC struct {
	ID, CIDR     string
	Default      bool
	DNSHostnames bool
	DNSSupport   bool
	DHCPOptions  string
	Tenancy      string
	Created      time.Time
	Tags         Tags
}

// RecordKind implements [Record].
func (VPC) RecordKind() string { return "vpc" }

// RecordID implements [Record].
func (v VPC) RecordID() string { return v.ID }

// A Subnet is a range of a VPC in one availability zone.
type Subnet struct {
	ID, VPC, CIDR, Zone string
	Default             bool // of the zone
	MapPublic           bool // instances get a public address
	Tags                Tags
}

// RecordKind implements [Record].
func (Subnet) RecordKind() string { return "subnet" }

// RecordID implements [Record].
func (s Subnet) RecordID() string { return s.ID }

// A SecurityGroup is a set of rules.
type SecurityGroup struct {
	ID, Name, Description, VPC string
	Rules                      []SecurityRule
	Tags                       Tags
}

// RecordKind implements [Record].
func (SecurityGroup) RecordKind() string { return "security-group" }

// RecordID implements [Record].
func (g SecurityGroup) RecordID() string { return g.ID }

// A SecurityRule lets traffic pass.
type SecurityRule struct {
	ID          string
	Egress      bool
	Protocol    string // tcp udp icmp -1
	From, To    int    // ports; -1 for all
	CIDR4       string
	CIDR6       string
	Group       string // id of a referenced group
	PrefixList  string
	Description string
	Tags        Tags
}

// A KeyPair is the public half of an SSH key.
type KeyPair struct {
	ID, Name, Type, Fingerprint, PublicKey string
	Created                                time.Time
	Tags                                   Tags
}

// RecordKind implements [Record].
func (KeyPair) RecordKind() string { return "key-pair" }

// RecordID implements [Record]: names are unique in a region.
func (k KeyPair) RecordID() string { return k.Name }

// A TokenUse is what a call with a client token made.
type TokenUse struct {
	Action, Token string
	Digest        string   // of the parameters
	Results       []string // ids
	At            time.Time
}

// RecordKind implements [Record].
func (TokenUse) RecordKind() string { return "token" }

// RecordID implements [Record].
func (u TokenUse) RecordID() string { return u.Action + "/" + u.Token }
