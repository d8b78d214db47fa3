package compute

import (
	"context"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
)

type state struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func stateOf(name string) state { return state{localcloud.StateCodes[name], name} }

type reason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type group struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

type placement struct {
	Zone      string `xml:"availabilityZone"`
	ZoneID    string `xml:"availabilityZoneId,omitempty"`
	Affinity  string `xml:"affinity,omitempty"`
	Group     string `xml:"groupName"`
	Partition int    `xml:"partitionNumber,omitempty"`
	Tenancy   string `xml:"tenancy"`
}

type device struct {
	Name string `xml:"deviceName"`
	EBS  struct {
		Volume   string `xml:"volumeId"`
		Status   string `xml:"status"`
		Attached string `xml:"attachTime"`
		Delete   bool   `xml:"deleteOnTermination"`
	} `xml:"ebs"`
}

type profile struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type association struct {
	PublicIP  string `xml:"publicIp"`
	PublicDNS string `xml:"publicDnsName"`
	Owner     string `xml:"ipOwnerId"`
}

type privateAddress struct {
	IP          string       `xml:"privateIpAddress"`
	DNS         string       `xml:"privateDnsName"`
	Primary     bool         `xml:"primary"`
	Association *association `xml:"association"`
}

type networkInterface struct {
	ID          string  `xml:"networkInterfaceId"`
	Subnet      string  `xml:"subnetId"`
	VPC         string  `xml:"vpcId"`
	Description string  `xml:"description"`
	Owner       string  `xml:"ownerId"`
	Status      string  `xml:"status"`
	MAC         string  `xml:"macAddress"`
	PrivateIP   string  `xml:"privateIpAddress"`
	PrivateDNS  string  `xml:"privateDnsName"`
	SourceDest  bool    `xml:"sourceDestCheck"`
	Groups      []group `xml:"groupSet>item"`
	Attachment  struct {
		ID       string `xml:"attachmentId"`
		Index    int    `xml:"deviceIndex"`
		Status   string `xml:"status"`
		Attached string `xml:"attachTime"`
		Delete   bool   `xml:"deleteOnTermination"`
		Card     int    `xml:"networkCardIndex"`
	} `xml:"attachment"`
	Association *association     `xml:"association"`
	Addresses   []privateAddress `xml:"privateIpAddressesSet>item"`
	Kind        string           `xml:"interfaceType"`
}

type metadataOptions struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	HopLimit int    `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	IPv6     string `xml:"httpProtocolIpv6"`
	Tags     string `xml:"instanceMetadataTags"`
}

func metadataOf(m localcloud.MetadataOptions, state string) metadataOptions {
	return metadataOptions{state, m.Tokens, m.HopLimit, m.Endpoint, "disabled", m.Tags}
}

type license struct {
	ARN string `xml:"licenseConfigurationArn"`
}

type enabled struct {
	Enabled bool `xml:"enabled"`
}

// An instance is one of a reply.
type instance struct {
	ID             string             `xml:"instanceId"`
	ImageID        string             `xml:"imageId"`
	State          state              `xml:"instanceState"`
	PrivateDNS     string             `xml:"privateDnsName"`
	PublicDNS      string             `xml:"dnsName"`
	Reason         string             `xml:"reason"`
	StateReason    *reason            `xml:"stateReason"`
	KeyName        string             `xml:"keyName,omitempty"`
	Index          int                `xml:"amiLaunchIndex"`
	Type           string             `xml:"instanceType"`
	Launched       string             `xml:"launchTime"`
	Placement      placement          `xml:"placement"`
	Platform       string             `xml:"platform,omitempty"`
	Details        string             `xml:"platformDetails"`
	Usage          string             `xml:"usageOperation"`
	UsageTime      string             `xml:"usageOperationUpdateTime"`
	Monitoring     monitoring         `xml:"monitoring"`
	Subnet         string             `xml:"subnetId,omitempty"`
	VPC            string             `xml:"vpcId,omitempty"`
	PrivateIP      string             `xml:"privateIpAddress,omitempty"`
	PublicIP       string             `xml:"ipAddress,omitempty"`
	SourceDest     *bool              `xml:"sourceDestCheck"`
	Groups         []group            `xml:"groupSet>item"`
	Arch           string             `xml:"architecture"`
	RootType       string             `xml:"rootDeviceType"`
	RootDevice     string             `xml:"rootDeviceName"`
	Devices        []device           `xml:"blockDeviceMapping>item"`
	Virtualization string             `xml:"virtualizationType"`
	Lifecycle      string             `xml:"instanceLifecycle,omitempty"`
	SpotRequest    string             `xml:"spotInstanceRequestId,omitempty"`
	Token          string             `xml:"clientToken"`
	Tags           []ec2wire.Tag      `xml:"tagSet>item"`
	Hypervisor     string             `xml:"hypervisor"`
	Interfaces     []networkInterface `xml:"networkInterfaceSet>item"`
	EBSOptimized   bool               `xml:"ebsOptimized"`
	ENA            bool               `xml:"enaSupport"`
	SriovNet       string             `xml:"sriovNetSupport,omitempty"`
	Profile        *profile           `xml:"iamInstanceProfile"`
	CPU            struct {
		Cores   int    `xml:"coreCount"`
		Threads int    `xml:"threadsPerCore"`
		SEVSNP  string `xml:"amdSevSnp,omitempty"`
	} `xml:"cpuOptions"`
	Capacity struct {
		Preference string `xml:"capacityReservationPreference"`
	} `xml:"capacityReservationSpecification"`
	Hibernation struct {
		Configured bool `xml:"configured"`
	} `xml:"hibernationOptions"`
	Licenses    []license       `xml:"licenseSet>item"`
	Metadata    metadataOptions `xml:"metadataOptions"`
	Enclave     enabled         `xml:"enclaveOptions"`
	BootMode    string          `xml:"bootMode,omitempty"`
	CurrentBoot string          `xml:"currentInstanceBootMode,omitempty"`
	TPM         string          `xml:"tpmSupport,omitempty"`
	DNSOptions  struct {
		Hostname string `xml:"hostnameType,omitempty"`
		A        bool   `xml:"enableResourceNameDnsARecord"`
		AAAA     bool   `xml:"enableResourceNameDnsAAAARecord"`
	} `xml:"privateDnsNameOptions"`
	Maintenance struct {
		AutoRecovery string `xml:"autoRecovery"`
	} `xml:"maintenanceOptions"`
}

type monitoring struct {
	State string `xml:"state"`
}

func monitoringOf(on bool) monitoring {
	if on {
		return monitoring{"enabled"}
	}
	return monitoring{"disabled"}
}

// A shower knows what a description of an instance needs of other records.
type shower struct {
	region   string
	groups   map[string]string // names by id
	profiles map[string]localcloud.InstanceProfile
	images   map[string]localcloud.Image
	volumes  map[string]localcloud.Volume
}

func (a *api) shower(ctx context.Context, region string) (*shower, error) {
	s := &shower{
		region: region, groups: map[string]string{}, profiles: map[string]localcloud.InstanceProfile{},
		images: map[string]localcloud.Image{}, volumes: map[string]localcloud.Volume{},
	}
	err := a.cloud.View(ctx, region, func(t *localcloud.Tx) error {
		groups, err := localcloud.All[localcloud.SecurityGroup](t)
		if err != nil {
			return err
		}
		for _, g := range groups {
			s.groups[g.ID] = g.Name
		}
		profiles, err := localcloud.All[localcloud.InstanceProfile](t.In(""))
		if err != nil {
			return err
		}
		for _, p := range profiles {
			s.profiles[p.Name] = p
		}
		images, err := localcloud.All[localcloud.Image](t)
		if err != nil {
			return err
		}
		for _, i := range images {
			s.images[i.ID] = i
		}
		volumes, err := localcloud.All[localcloud.Volume](t)
		for _, v := range volumes {
			s.volumes[v.ID] = v
		}
		return err
	})
	return s, err
}

func (s *shower) groupSet(ids []string) []group {
	return ec2wire.Mapped(ids, func(id string) group { return group{id, s.groups[id]} })
}

func (s *shower) profile(name string) *profile {
	if name == "" {
		return nil
	}
	p, ok := s.profiles[name]
	if !ok { // deleted under the instance, which goes on having it
		p.Name, p.Path = name, "/"
	}
	return &profile{p.ARN(), p.ID}
}

// platform is how EC2 names what is billed.
func platform(p string) (details, operation string) {
	if p == "windows" {
		return "Windows", "RunInstances:0002"
	}
	return "Linux/UNIX", "RunInstances"
}

func (s *shower) instance(i localcloud.Instance) instance {
	out := instance{
		ID: i.ID, ImageID: i.ImageID, State: stateOf(i.State), PrivateDNS: i.PrivateDNS(s.region),
		PublicDNS: i.PublicDNS(s.region), KeyName: i.KeyName, Index: i.Index, Type: i.Type,
		Launched:  awswire.Time(i.Launched),
		Placement: placement{i.Zone, localcloud.ZoneID(i.Zone), i.Host.Affinity, i.Host.Group, i.Host.Partition, i.Tenancy},
		Platform:  i.Platform, UsageTime: awswire.Time(i.Launched), Monitoring: monitoringOf(i.Monitoring),
		Arch: i.Arch, RootType: "ebs", RootDevice: i.RootDevice, Virtualization: i.Virtualization,
		Lifecycle: i.Lifecycle, SpotRequest: i.SpotRequest, Token: i.Token, Tags: ec2wire.Tags(i.Tags), Hypervisor: "xen",
		EBSOptimized: i.EBSOptimized, ENA: i.ENA, SriovNet: i.SriovNet, Profile: s.profile(i.Profile),
		Licenses: ec2wire.Mapped(i.Licenses, func(arn string) license { return license{arn} }),
		Metadata: metadataOf(i.Metadata, "applied"), Enclave: enabled{i.Enclave},
		BootMode: s.images[i.ImageID].BootMode, CurrentBoot: i.BootMode,
	}
	out.Details, out.Usage = platform(i.Platform)
	if i.TPM {
		out.TPM = "v2.0"
	}
	if i.StateReason != "" {
		out.StateReason = &reason{i.StateCode, i.StateCode + ": " + i.StateReason}
		if i.State == "pending" {
			out.StateReason = &reason{"pending", "pending"}
		}
	}
	if i.StateCode == "Client.UserInitiatedShutdown" {
		out.Reason = "User initiated (" + i.Transitioned.UTC().Format("2006-01-02 15:04:05 GMT") + ")"
	} else if i.State != "pending" && i.StateCode != "" {
		out.Reason = i.StateCode
	}
	out.CPU.Cores, out.CPU.Threads, out.CPU.SEVSNP = i.CPU.Cores, i.CPU.Threads, i.CPU.SEVSNP
	if kind, ok := instancetype.Get(i.Type); ok && out.CPU.Cores == 0 {
		out.CPU.Threads = max(1, kind.ThreadsPerCore)
		out.CPU.Cores = max(1, kind.VCPUs/out.CPU.Threads)
	}
	out.Capacity.Preference = i.Capacity.Preference
	out.DNSOptions.Hostname, out.DNSOptions.A, out.DNSOptions.AAAA = i.HostnameType, i.ResourceNameDNS, i.ResourceNameDNSv6
	out.Maintenance.AutoRecovery = i.AutoRecovery
	if i.State == "terminated" { // has no place in a network any more
		out.PrivateDNS, out.PublicDNS = "", ""
		return out
	}
	out.Subnet, out.VPC, out.PrivateIP, out.PublicIP = i.Subnet, i.VPC, i.PrivateIP, i.PublicIP
	out.SourceDest = &i.SourceDestCheck
	out.Groups = s.groupSet(i.SecurityGroups)
	out.Interfaces = []networkInterface{s.networkInterface(i)}
	for _, d := range i.Devices {
		o := device{Name: d.Device}
		o.EBS.Volume, o.EBS.Attached, o.EBS.Delete = d.Volume, awswire.Time(d.Attached), d.DeleteOnTermination
		o.EBS.Status = s.volumes[d.Volume].AttachState
		if o.EBS.Status == "" {
			o.EBS.Status = "attached"
		}
		out.Devices = append(out.Devices, o)
	}
	return out
}

func (s *shower) networkInterface(i localcloud.Instance) networkInterface {
	n := networkInterface{
		ID: i.Interface.ID, Subnet: i.Subnet, VPC: i.VPC, Description: i.Interface.Description, Owner: localcloud.AccountID,
		Status: "in-use", MAC: i.Interface.MAC, PrivateIP: i.PrivateIP, PrivateDNS: i.PrivateDNS(s.region),
		SourceDest: i.SourceDestCheck, Groups: s.groupSet(i.SecurityGroups), Kind: "interface",
	}
	n.Attachment.ID, n.Attachment.Status, n.Attachment.Delete = i.Interface.Attachment, "attached", true
	n.Attachment.Attached = awswire.Time(i.Launched)
	if i.PublicIP != "" {
		n.Association = &association{i.PublicIP, i.PublicDNS(s.region), "amazon"}
	}
	n.Addresses = []privateAddress{{i.PrivateIP, n.PrivateDNS, true, n.Association}}
	return n
}

// A reservation is the instances of one launch.
type reservation struct {
	ID        string     `xml:"reservationId"`
	Owner     string     `xml:"ownerId"`
	Instances []instance `xml:"instancesSet>item"`
}

// reservations groups instances, in their order.
func (s *shower) reservations(in []localcloud.Instance) []reservation {
	var out []reservation
	at := map[string]int{}
	for _, i := range in {
		n, ok := at[i.Reservation]
		if !ok {
			n = len(out)
			at[i.Reservation] = n
			out = append(out, reservation{ID: i.Reservation, Owner: localcloud.AccountID})
		}
		out[n].Instances = append(out[n].Instances, s.instance(i))
	}
	return out
}

func number(n int) string { return strconv.Itoa(n) }
