package ec2wire

import (
	"encoding/base64"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// Launch are the parameters that RunInstances, the data of a launch template
// and a spot request's specification have in common.
type Launch struct {
	ImageID          string             `q:"ImageId"`
	InstanceType     string             `q:"InstanceType"`
	KeyName          string             `q:"KeyName"`
	KernelID         string             `q:"KernelId"`
	UserData         string             `q:"UserData"`
	SecurityGroupIDs []string           `q:"SecurityGroupId"`
	SecurityGroups   []string           `q:"SecurityGroup"`
	Interfaces       []LaunchInterface  `q:"NetworkInterface"`
	Devices          []LaunchDevice     `q:"BlockDeviceMapping"`
	Placement        *LaunchPlacement   `q:"Placement"`
	Profile          LaunchProfile      `q:"IamInstanceProfile"`
	Monitoring       *LaunchEnabled     `q:"Monitoring"`
	EBSOptimized     *bool              `q:"EbsOptimized"`
	NoAPITermination *bool              `q:"DisableApiTermination"`
	NoAPIStop        *bool              `q:"DisableApiStop"`
	ShutdownBehavior string             `q:"InstanceInitiatedShutdownBehavior"`
	Metadata         *LaunchMetadata    `q:"MetadataOptions"`
	Credits          LaunchCredits      `q:"CreditSpecification"`
	Market           *LaunchMarket      `q:"InstanceMarketOptions"`
	Hibernation      *LaunchHibernation `q:"HibernationOptions"`
	Enclave          *LaunchEnabled     `q:"EnclaveOptions"`
	Capacity         *LaunchCapacity    `q:"CapacityReservationSpecification"`
	Licenses         []LaunchLicense    `q:"LicenseSpecification"`
	CPU              *LaunchCPU         `q:"CpuOptions"`
	Maintenance      LaunchMaintenance  `q:"MaintenanceOptions"`
	PrivateDNS       LaunchPrivateDNS   `q:"PrivateDnsNameOptions"`
	TagSpecs         []TagSpec          `q:"TagSpecification"`
}

// LaunchInterface is an InstanceNetworkInterfaceSpecification.
type LaunchInterface struct {
	DeviceIndex         *int     `q:"DeviceIndex"`
	NetworkCardIndex    int      `q:"NetworkCardIndex"`
	SubnetID            string   `q:"SubnetId"`
	Description         string   `q:"Description"`
	PrivateIP           string   `q:"PrivateIpAddress"`
	SecurityGroupIDs    []string `q:"SecurityGroupId"`
	AssociatePublicIP   *bool    `q:"AssociatePublicIpAddress"`
	DeleteOnTermination *bool    `q:"DeleteOnTermination"`
	InterfaceID         string   `q:"NetworkInterfaceId"`
	Kind                string   `q:"InterfaceType"`
}

// LaunchDevice is a BlockDeviceMapping. NoDevice is given as an empty string.
type LaunchDevice struct {
	DeviceName  string        `q:"DeviceName,required"`
	VirtualName string        `q:"VirtualName"`
	NoDevice    *string       `q:"NoDevice"`
	EBS         *LaunchVolume `q:"Ebs"`
}

// LaunchVolume is an EbsBlockDevice.
type LaunchVolume struct {
	SnapshotID          string `q:"SnapshotId"`
	VolumeSize          *int64 `q:"VolumeSize"`
	VolumeType          string `q:"VolumeType"`
	IOPS                *int64 `q:"Iops"`
	Throughput          *int64 `q:"Throughput"`
	InitializationRate  int64  `q:"VolumeInitializationRate"`
	Encrypted           *bool  `q:"Encrypted"`
	KMSKeyID            string `q:"KmsKeyId"`
	DeleteOnTermination *bool  `q:"DeleteOnTermination"`
}

// LaunchPlacement is a Placement.
type LaunchPlacement struct {
	Zone              string `q:"AvailabilityZone"`
	ZoneID            string `q:"AvailabilityZoneId"`
	Tenancy           string `q:"Tenancy"`
	Group             string `q:"GroupName"`
	GroupID           string `q:"GroupId"`
	Host              string `q:"HostId"`
	HostResourceGroup string `q:"HostResourceGroupArn"`
	Affinity          string `q:"Affinity"`
	Partition         int    `q:"PartitionNumber"`
}

// LaunchProfile is an IamInstanceProfileSpecification.
type LaunchProfile struct {
	ARN  string `q:"Arn"`
	Name string `q:"Name"`
}

// LaunchEnabled is a switch in a structure of its own.
type LaunchEnabled struct {
	Enabled bool `q:"Enabled"`
}

// LaunchHibernation are HibernationOptions.
type LaunchHibernation struct {
	Configured bool `q:"Configured"`
}

// LaunchMetadata are MetadataOptions.
type LaunchMetadata struct {
	Endpoint string `q:"HttpEndpoint"`
	IPv6     string `q:"HttpProtocolIpv6"`
	HopLimit *int   `q:"HttpPutResponseHopLimit"`
	Tokens   string `q:"HttpTokens"`
	Tags     string `q:"InstanceMetadataTags"`
}

// LaunchCredits is a CreditSpecification.
type LaunchCredits struct {
	CPU string `q:"CpuCredits"`
}

// LaunchMarket are InstanceMarketOptions.
type LaunchMarket struct {
	Type string `q:"MarketType"`
	Spot struct {
		MaxPrice      string     `q:"MaxPrice"`
		Type          string     `q:"SpotInstanceType"`
		Interruption  string     `q:"InstanceInterruptionBehavior"`
		BlockDuration int        `q:"BlockDurationMinutes"`
		ValidUntil    *time.Time `q:"ValidUntil"`
	} `q:"SpotOptions"`
}

// LaunchCapacity is a CapacityReservationSpecification.
type LaunchCapacity struct {
	Preference string `q:"CapacityReservationPreference"`
	Target     struct {
		ID       string `q:"CapacityReservationId"`
		GroupARN string `q:"CapacityReservationResourceGroupArn"`
	} `q:"CapacityReservationTarget"`
}

// LaunchLicense names a license configuration.
type LaunchLicense struct {
	ARN string `q:"LicenseConfigurationArn,required"`
}

// LaunchCPU are CpuOptions.
type LaunchCPU struct {
	Cores   int    `q:"CoreCount"`
	Threads int    `q:"ThreadsPerCore"`
	SEVSNP  string `q:"AmdSevSnp"`
}

// LaunchMaintenance are MaintenanceOptions.
type LaunchMaintenance struct {
	AutoRecovery string `q:"AutoRecovery"`
}

// LaunchPrivateDNS are PrivateDnsNameOptions.
type LaunchPrivateDNS struct {
	HostnameType string `q:"HostnameType"`
	A            bool   `q:"EnableResourceNameDnsARecord"`
	AAAA         bool   `q:"EnableResourceNameDnsAAAARecord"`
}

// LaunchTemplate is a LaunchTemplateSpecification.
type LaunchTemplate struct {
	ID      string `q:"LaunchTemplateId"`
	Name    string `q:"LaunchTemplateName"`
	Version string `q:"Version"`
}

// Choice returns the template as the core takes it, nil when none was named.
func (t LaunchTemplate) Choice() *localcloud.LaunchTemplateChoice {
	if t.ID == "" && t.Name == "" {
		return nil
	}
	return &localcloud.LaunchTemplateChoice{ID: t.ID, Name: t.Name, Version: t.Version}
}

// launchTagged are the types of resources a launch tags.
var launchTagged = []string{"instance", "volume", "network-interface", "spot-instances-request", "elastic-gpu"}

// Spec returns the parameters as the core takes them. It refuses what no
// launch could mean; the core checks the rest against the region's things.
func (l *Launch) Spec() (localcloud.LaunchSpec, error) {
	s := localcloud.LaunchSpec{
		ImageID: l.ImageID, Type: l.InstanceType, KeyName: l.KeyName, KernelID: l.KernelID,
		SecurityGroupIDs: l.SecurityGroupIDs,
		SecurityGroups:   l.SecurityGroups, ProfileARN: l.Profile.ARN,
		ProfileName: l.Profile.Name, EBSOptimized: l.EBSOptimized, NoAPITermination: l.NoAPITermination,
		NoAPIStop: l.NoAPIStop, ShutdownBehavior: l.ShutdownBehavior, Credits: l.Credits.CPU,
		AutoRecovery: l.Maintenance.AutoRecovery, HostnameType: l.PrivateDNS.HostnameType,
		ResourceNameDNS: l.PrivateDNS.A, ResourceNameDNSv6: l.PrivateDNS.AAAA,
	}
	var err error
	if l.UserData != "" {
		if s.UserData, err = base64.StdEncoding.DecodeString(l.UserData); err != nil {
			return s, awswire.Errorf("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
		}
	}
	if s.Tags, err = launchTags(l.TagSpecs); err != nil {
		return s, err
	}
	if s.Devices, err = Devices(l.Devices); err != nil {
		return s, err
	}
	for _, n := range l.Interfaces {
		i, err := n.spec()
		if err != nil {
			return s, err
		}
		s.Interfaces = append(s.Interfaces, i)
	}
	if l.Placement != nil {
		s.Placement = l.Placement.Spec()
	}
	if l.Monitoring != nil {
		s.Monitoring = &l.Monitoring.Enabled
	}
	if l.Enclave != nil {
		s.Enclave = &l.Enclave.Enabled
	}
	if l.Hibernation != nil {
		s.Hibernation = &l.Hibernation.Configured
	}
	if l.Metadata != nil {
		if s.Metadata, err = l.Metadata.Spec(); err != nil {
			return s, err
		}
	}
	if m := l.Market; m != nil {
		s.Market = &localcloud.LaunchMarket{
			Type: m.Type, MaxPrice: m.Spot.MaxPrice, SpotType: m.Spot.Type,
			Interruption: m.Spot.Interruption, BlockDuration: m.Spot.BlockDuration,
		}
		if m.Spot.ValidUntil != nil {
			s.Market.ValidUntil = *m.Spot.ValidUntil
		}
	}
	if c := l.Capacity; c != nil {
		s.Capacity = &localcloud.LaunchCapacity{Preference: c.Preference, ID: c.Target.ID, GroupARN: c.Target.GroupARN}
	}
	for _, c := range l.Licenses {
		s.Licenses = append(s.Licenses, c.ARN)
	}
	if c := l.CPU; c != nil {
		s.CPU = &localcloud.LaunchCPU{Cores: c.Cores, Threads: c.Threads, SEVSNP: c.SEVSNP}
	}
	return s, nil
}

func launchTags(specs []TagSpec) (map[string]localcloud.Tags, error) {
	out := map[string]localcloud.Tags{}
	for _, s := range specs {
		if _, twice := out[s.ResourceType]; twice {
			return nil, awswire.Errorf("InvalidParameterValue", "The same resource type may not be specified more than once in tag specifications: %s", s.ResourceType)
		}
		tags, err := SpecTags([]TagSpec{s}, s.ResourceType)
		if err != nil {
			return nil, err
		}
		if _, err := SpecTags([]TagSpec{s}, "instance", launchTagged...); err != nil {
			return nil, err
		}
		out[s.ResourceType] = tags
	}
	return out, nil
}

// Devices returns block device mappings as the core takes them.
func Devices(in []LaunchDevice) ([]localcloud.LaunchDevice, error) {
	var out []localcloud.LaunchDevice
	for _, d := range in {
		o := localcloud.LaunchDevice{Device: d.DeviceName, Virtual: d.VirtualName, None: d.NoDevice != nil}
		if o.None && (d.EBS != nil || d.VirtualName != "") || d.EBS != nil && d.VirtualName != "" {
			return nil, awswire.Errorf("InvalidBlockDeviceMapping", "The device '%s' must have only one of NoDevice, VirtualName and Ebs", d.DeviceName)
		}
		if e := d.EBS; e != nil {
			o.Volume = &localcloud.LaunchVolume{
				SnapshotID: e.SnapshotID, Type: e.VolumeType, InitializationRate: e.InitializationRate,
				Encrypted: e.Encrypted, KMSKeyID: e.KMSKeyID, DeleteOnTermination: e.DeleteOnTermination,
			}
			for _, n := range []struct {
				name string
				from *int64
				to   *int64
			}{{"volumeSize", e.VolumeSize, &o.Volume.SizeGiB}, {"iops", e.IOPS, &o.Volume.IOPS}, {"throughput", e.Throughput, &o.Volume.Throughput}} {
				if n.from == nil {
					continue
				}
				if *n.from <= 0 {
					return nil, awswire.Errorf("InvalidParameterValue", "Value (%d) for parameter %s of device %s is invalid. It must be positive", *n.from, n.name, d.DeviceName)
				}
				*n.to = *n.from
			}
		} else if !o.None && o.Virtual == "" {
			return nil, awswire.Errorf("InvalidBlockDeviceMapping", "The device '%s' needs one of NoDevice, VirtualName and Ebs", d.DeviceName)
		}
		out = append(out, o)
	}
	return out, nil
}

func (n LaunchInterface) spec() (localcloud.LaunchInterface, error) {
	if n.DeviceIndex == nil {
		return localcloud.LaunchInterface{}, awswire.Errorf("MissingParameter", "Each network interface requires a device index.")
	}
	if n.NetworkCardIndex != 0 {
		return localcloud.LaunchInterface{}, awswire.Errorf("InvalidParameterValue", "Value (%d) for parameter networkCardIndex is invalid. The local cloud has network card 0 only", n.NetworkCardIndex)
	}
	return localcloud.LaunchInterface{
		Index: *n.DeviceIndex, SubnetID: n.SubnetID, Description: n.Description, PrivateIP: n.PrivateIP,
		SecurityGroupIDs: n.SecurityGroupIDs, PublicIP: n.AssociatePublicIP,
		DeleteOnTermination: n.DeleteOnTermination, InterfaceID: n.InterfaceID, Kind: n.Kind,
	}, nil
}

// Spec returns the placement as the core takes it.
func (p LaunchPlacement) Spec() *localcloud.LaunchPlacement {
	return &localcloud.LaunchPlacement{
		Zone: p.Zone, ZoneID: p.ZoneID, Tenancy: p.Tenancy, Group: p.Group, GroupID: p.GroupID,
		Host: p.Host, HostResourceGroup: p.HostResourceGroup, Affinity: p.Affinity, Partition: p.Partition,
	}
}

// Spec returns the options as the core takes them.
func (m LaunchMetadata) Spec() (*localcloud.MetadataOptions, error) {
	for _, e := range []struct{ name, value, a, b string }{
		{"HttpEndpoint", m.Endpoint, "enabled", "disabled"},
		{"HttpTokens", m.Tokens, "optional", "required"},
		{"InstanceMetadataTags", m.Tags, "enabled", "disabled"},
		{"HttpProtocolIpv6", m.IPv6, "enabled", "disabled"},
	} {
		if e.value != "" && e.value != e.a && e.value != e.b {
			return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Valid values are %s and %s", e.value, e.name, e.a, e.b)
		}
	}
	if m.IPv6 == "enabled" {
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud serves no metadata over IPv6")
	}
	out := &localcloud.MetadataOptions{Endpoint: m.Endpoint, Tokens: m.Tokens, Tags: m.Tags}
	if m.HopLimit != nil {
		if *m.HopLimit < 1 || *m.HopLimit > 64 {
			return nil, awswire.Errorf("InvalidParameterValue", "Value (%d) for parameter HttpPutResponseHopLimit is invalid. It must be from 1 to 64", *m.HopLimit)
		}
		out.HopLimit = *m.HopLimit
	}
	return out, nil
}
