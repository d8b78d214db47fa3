package network

import (
	"encoding/base64"
	"maps"
	"slices"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

// templateData is ResponseLaunchTemplateData. What the template does not say
// is left out.
type templateData struct {
	ImageID          string              `xml:"imageId,omitempty"`
	Type             string              `xml:"instanceType,omitempty"`
	KeyName          string              `xml:"keyName,omitempty"`
	KernelID         string              `xml:"kernelId,omitempty"`
	RAMDiskID        string              `xml:"ramDiskId,omitempty"`
	UserData         string              `xml:"userData,omitempty"`
	GroupIDs         []string            `xml:"securityGroupIdSet>item"`
	Groups           []string            `xml:"securityGroupSet>item"`
	Interfaces       []templateInterface `xml:"networkInterfaceSet>item"`
	Devices          []templateDevice    `xml:"blockDeviceMappingSet>item"`
	Placement        *templatePlacement  `xml:"placement"`
	Profile          *templateProfile    `xml:"iamInstanceProfile"`
	Monitoring       *enabled            `xml:"monitoring"`
	EBSOptimized     *bool               `xml:"ebsOptimized"`
	NoAPITermination *bool               `xml:"disableApiTermination"`
	NoAPIStop        *bool               `xml:"disableApiStop"`
	ShutdownBehavior string              `xml:"instanceInitiatedShutdownBehavior,omitempty"`
	Metadata         *templateMetadata   `xml:"metadataOptions"`
	Credits          *templateCredits    `xml:"creditSpecification"`
	Market           *templateMarket     `xml:"instanceMarketOptions"`
	Hibernation      *configured         `xml:"hibernationOptions"`
	Enclave          *enabled            `xml:"enclaveOptions"`
	Capacity         *templateCapacity   `xml:"capacityReservationSpecification"`
	Licenses         []templateLicense   `xml:"licenseSet>item"`
	CPU              *templateCPU        `xml:"cpuOptions"`
	Maintenance      *templateRecovery   `xml:"maintenanceOptions"`
	PrivateDNS       *subnetNames        `xml:"privateDnsNameOptions"`
	Tags             []templateTags      `xml:"tagSpecificationSet>item"`
}

type enabled struct {
	Enabled bool `xml:"enabled"`
}

type configured struct {
	Configured bool `xml:"configured"`
}

type templateInterface struct {
	Index               int      `xml:"deviceIndex"`
	Subnet              string   `xml:"subnetId,omitempty"`
	Description         string   `xml:"description,omitempty"`
	PrivateIP           string   `xml:"privateIpAddress,omitempty"`
	Groups              []string `xml:"groupSet>groupId"`
	PublicIP            *bool    `xml:"associatePublicIpAddress"`
	DeleteOnTermination *bool    `xml:"deleteOnTermination"`
	ID                  string   `xml:"networkInterfaceId,omitempty"`
	Kind                string   `xml:"interfaceType,omitempty"`
}

type templateDevice struct {
	Name    string          `xml:"deviceName"`
	Virtual string          `xml:"virtualName,omitempty"`
	None    *string         `xml:"noDevice"`
	EBS     *templateVolume `xml:"ebs"`
}

type templateVolume struct {
	Snapshot            string `xml:"snapshotId,omitempty"`
	Size                int64  `xml:"volumeSize,omitempty"`
	Type                string `xml:"volumeType,omitempty"`
	IOPS                int64  `xml:"iops,omitempty"`
	Throughput          int64  `xml:"throughput,omitempty"`
	InitializationRate  int64  `xml:"volumeInitializationRate,omitempty"`
	Encrypted           *bool  `xml:"encrypted"`
	KMSKeyID            string `xml:"kmsKeyId,omitempty"`
	DeleteOnTermination *bool  `xml:"deleteOnTermination"`
}

type templatePlacement struct {
	Zone              string `xml:"availabilityZone,omitempty"`
	ZoneID            string `xml:"availabilityZoneId,omitempty"`
	Tenancy           string `xml:"tenancy,omitempty"`
	Group             string `xml:"groupName,omitempty"`
	GroupID           string `xml:"groupId,omitempty"`
	Host              string `xml:"hostId,omitempty"`
	HostResourceGroup string `xml:"hostResourceGroupArn,omitempty"`
	Affinity          string `xml:"affinity,omitempty"`
	Partition         int    `xml:"partitionNumber,omitempty"`
}

type templateProfile struct {
	ARN  string `xml:"arn,omitempty"`
	Name string `xml:"name,omitempty"`
}

type templateMetadata struct {
	State    string `xml:"state"`
	Endpoint string `xml:"httpEndpoint,omitempty"`
	Tokens   string `xml:"httpTokens,omitempty"`
	HopLimit int    `xml:"httpPutResponseHopLimit,omitempty"`
	Tags     string `xml:"instanceMetadataTags,omitempty"`
}

type templateCredits struct {
	CPU string `xml:"cpuCredits"`
}

type templateMarket struct {
	Type string        `xml:"marketType,omitempty"`
	Spot *templateSpot `xml:"spotOptions"`
}

type templateSpot struct {
	MaxPrice      string `xml:"maxPrice,omitempty"`
	Type          string `xml:"spotInstanceType,omitempty"`
	Interruption  string `xml:"instanceInterruptionBehavior,omitempty"`
	BlockDuration int    `xml:"blockDurationMinutes,omitempty"`
	ValidUntil    string `xml:"validUntil,omitempty"`
}

type templateCapacity struct {
	Preference string                  `xml:"capacityReservationPreference,omitempty"`
	Target     *templateCapacityTarget `xml:"capacityReservationTarget"`
}

type templateCapacityTarget struct {
	ID       string `xml:"capacityReservationId,omitempty"`
	GroupARN string `xml:"capacityReservationResourceGroupArn,omitempty"`
}

type templateLicense struct {
	ARN string `xml:"licenseConfigurationArn"`
}

type templateCPU struct {
	Cores   int    `xml:"coreCount,omitempty"`
	Threads int    `xml:"threadsPerCore,omitempty"`
	SEVSNP  string `xml:"amdSevSnp,omitempty"`
}

type templateRecovery struct {
	AutoRecovery string `xml:"autoRecovery"`
}

type templateTags struct {
	Kind string        `xml:"resourceType"`
	Tags []ec2wire.Tag `xml:"tagSet>item"`
}

func toTemplateData(s localcloud.LaunchSpec) templateData {
	out := templateData{
		ImageID: s.ImageID, Type: s.Type, KeyName: s.KeyName, KernelID: s.KernelID, RAMDiskID: s.RamdiskID,
		UserData: base64.StdEncoding.EncodeToString(s.UserData), GroupIDs: s.SecurityGroupIDs, Groups: s.SecurityGroups,
		Interfaces: ec2wire.Mapped(s.Interfaces, toTemplateInterface), Devices: ec2wire.Mapped(s.Devices, toTemplateDevice),
		EBSOptimized: s.EBSOptimized, NoAPITermination: s.NoAPITermination, NoAPIStop: s.NoAPIStop,
		ShutdownBehavior: s.ShutdownBehavior,
		Licenses:         ec2wire.Mapped(s.Licenses, func(arn string) templateLicense { return templateLicense{arn} }),
	}
	if p := s.Placement; p != nil {
		out.Placement = &templatePlacement{
			Zone: p.Zone, ZoneID: p.ZoneID, Tenancy: p.Tenancy, Group: p.Group, GroupID: p.GroupID, Host: p.Host,
			HostResourceGroup: p.HostResourceGroup, Affinity: p.Affinity, Partition: p.Partition,
		}
	}
	if s.ProfileARN != "" || s.ProfileName != "" {
		out.Profile = &templateProfile{ARN: s.ProfileARN, Name: s.ProfileName}
	}
	if s.Monitoring != nil {
		out.Monitoring = &enabled{*s.Monitoring}
	}
	if s.Enclave != nil {
		out.Enclave = &enabled{*s.Enclave}
	}
	if s.Hibernation != nil {
		out.Hibernation = &configured{*s.Hibernation}
	}
	if m := s.Metadata; m != nil {
		out.Metadata = &templateMetadata{State: "applied", Endpoint: m.Endpoint, Tokens: m.Tokens, HopLimit: m.HopLimit, Tags: m.Tags}
	}
	if s.Credits != "" {
		out.Credits = &templateCredits{s.Credits}
	}
	if m := s.Market; m != nil {
		out.Market = &templateMarket{Type: m.Type}
		spot := templateSpot{
			MaxPrice: m.MaxPrice, Type: m.SpotType, Interruption: m.Interruption,
			BlockDuration: m.BlockDuration, ValidUntil: awswire.Time(m.ValidUntil),
		}
		if spot != (templateSpot{}) {
			out.Market.Spot = &spot
		}
	}
	if c := s.Capacity; c != nil {
		out.Capacity = &templateCapacity{Preference: c.Preference}
		if c.ID != "" || c.GroupARN != "" {
			out.Capacity.Target = &templateCapacityTarget{ID: c.ID, GroupARN: c.GroupARN}
		}
	}
	if c := s.CPU; c != nil {
		out.CPU = &templateCPU{Cores: c.Cores, Threads: c.Threads, SEVSNP: c.SEVSNP}
	}
	if s.AutoRecovery != "" {
		out.Maintenance = &templateRecovery{s.AutoRecovery}
	}
	if s.HostnameType != "" || s.ResourceNameDNS || s.ResourceNameDNSv6 {
		out.PrivateDNS = &subnetNames{Type: s.HostnameType, A: s.ResourceNameDNS, AAAA: s.ResourceNameDNSv6}
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Tags)) {
		out.Tags = append(out.Tags, templateTags{Kind: kind, Tags: ec2wire.Tags(s.Tags[kind])})
	}
	return out
}

func toTemplateInterface(i localcloud.LaunchInterface) templateInterface {
	return templateInterface{
		Index: i.Index, Subnet: i.SubnetID, Description: i.Description, PrivateIP: i.PrivateIP, Groups: i.SecurityGroupIDs,
		PublicIP: i.PublicIP, DeleteOnTermination: i.DeleteOnTermination, ID: i.InterfaceID, Kind: i.Kind,
	}
}

func toTemplateDevice(d localcloud.LaunchDevice) templateDevice {
	out := templateDevice{Name: d.Device, Virtual: d.Virtual}
	if d.None {
		out.None = new(string)
	}
	if v := d.Volume; v != nil {
		out.EBS = &templateVolume{
			Snapshot: v.SnapshotID, Size: v.SizeGiB, Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput,
			InitializationRate: v.InitializationRate, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID, DeleteOnTermination: v.DeleteOnTermination,
		}
	}
	return out
}
