package network

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
)

func (a *api) instanceTypes() awswire.Operations {
	return awswire.Operations{
		"DescribeInstanceTypes":                    awswire.Op(a.describeTypes),
		"DescribeInstanceTypeOfferings":            awswire.Op(a.describeOfferings),
		"GetInstanceTypesFromInstanceRequirements": awswire.Op(a.typesFor),
		"DescribeSpotPriceHistory":                 awswire.Op(a.spotPrices),
	}
}

type typeInfo struct {
	Name           string        `xml:"instanceType"`
	Current        bool          `xml:"currentGeneration"`
	FreeTier       bool          `xml:"freeTierEligible"`
	UsageClasses   []string      `xml:"supportedUsageClasses>item"`
	RootDevices    []string      `xml:"supportedRootDeviceTypes>item"`
	Virtualization []string      `xml:"supportedVirtualizationTypes>item"`
	BareMetal      bool          `xml:"bareMetal"`
	Hypervisor     string        `xml:"hypervisor"`
	Processor      processorInfo `xml:"processorInfo"`
	VCPU           vcpuInfo      `xml:"vCpuInfo"`
	Memory         memoryInfo    `xml:"memoryInfo"`
	HasStore       bool          `xml:"instanceStorageSupported"`
	Store          *storeInfo    `xml:"instanceStorageInfo"`
	EBS            ebsInfo       `xml:"ebsInfo"`
	Network        networkInfo   `xml:"networkInfo"`
	Placement      []string      `xml:"placementGroupInfo>supportedStrategies>item"`
	Hibernation    bool          `xml:"hibernationSupported"`
	Burstable      bool          `xml:"burstablePerformanceSupported"`
	Dedicated      bool          `xml:"dedicatedHostsSupported"`
	Recovery       bool          `xml:"autoRecoverySupported"`
	BootModes      []string      `xml:"supportedBootModes>item"`
	Enclaves       string        `xml:"nitroEnclavesSupport"`
	TPM            string        `xml:"nitroTpmSupport"`
	TPMInfo        *tpmInfo      `xml:"nitroTpmInfo"`
}

type processorInfo struct {
	Architectures []string `xml:"supportedArchitectures>item"`
	ClockGHz      float64  `xml:"sustainedClockSpeedInGhz,omitempty"`
	Manufacturer  string   `xml:"manufacturer"`
}

type vcpuInfo struct {
	VCPUs   int `xml:"defaultVCpus"`
	Cores   int `xml:"defaultCores"`
	Threads int `xml:"defaultThreadsPerCore"`
}

type memoryInfo struct {
	MiB int `xml:"sizeInMiB"`
}

type storeInfo struct {
	GB    int         `xml:"totalSizeInGB"`
	Disks []storeDisk `xml:"disks>item"`
	NVMe  string      `xml:"nvmeSupport"`
}

type storeDisk struct {
	GB    int    `xml:"sizeInGB"`
	Count int    `xml:"count"`
	Type  string `xml:"type"`
}

type ebsInfo struct {
	Optimized  string   `xml:"ebsOptimizedSupport"`
	Encryption string   `xml:"encryptionSupport"`
	NVMe       string   `xml:"nvmeSupport"`
	Bandwidth  *ebsRate `xml:"ebsOptimizedInfo"`
}

type ebsRate struct {
	Mbps int `xml:"baselineBandwidthInMbps"`
}

type networkInfo struct {
	Performance  string        `xml:"networkPerformance"`
	Interfaces   int           `xml:"maximumNetworkInterfaces"`
	Cards        int           `xml:"maximumNetworkCards"`
	DefaultCard  int           `xml:"defaultNetworkCardIndex"`
	CardList     []networkCard `xml:"networkCards>item"`
	IPv4         int           `xml:"ipv4AddressesPerInterface"`
	IPv6         int           `xml:"ipv6AddressesPerInterface"`
	HasIPv6      bool          `xml:"ipv6Supported"`
	ENA          string        `xml:"enaSupport"`
	EFA          bool          `xml:"efaSupported"`
	EncryptedNet bool          `xml:"encryptionInTransitSupported"`
}

type networkCard struct {
	Index       int    `xml:"networkCardIndex"`
	Performance string `xml:"networkPerformance"`
	Interfaces  int    `xml:"maximumNetworkInterfaces"`
}

type tpmInfo struct {
	Versions []string `xml:"supportedVersions>item"`
}

func supported(b bool) string {
	if b {
		return "supported"
	}
	return "unsupported"
}

func rootDevices(k instancetype.Type) []string {
	if k.StoreGB > 0 {
		return []string{"ebs", "instance-store"}
	}
	return []string{"ebs"}
}

func usageClasses(instancetype.Type) []string { return []string{"on-demand", "spot"} }

func toType(k instancetype.Type) typeInfo {
	out := typeInfo{
		Name: k.Name, Current: k.CurrentGeneration, FreeTier: k.FreeTier, UsageClasses: usageClasses(k),
		RootDevices: rootDevices(k), Virtualization: k.Virtualization, Hypervisor: k.Hypervisor,
		Processor: processorInfo{Architectures: k.Architectures, ClockGHz: k.ClockGHz, Manufacturer: k.Manufacturer},
		VCPU:      vcpuInfo{VCPUs: k.VCPUs, Cores: k.VCPUs / k.ThreadsPerCore, Threads: k.ThreadsPerCore},
		Memory:    memoryInfo{k.MemoryMiB}, HasStore: k.StoreGB > 0,
		EBS: ebsInfo{Optimized: k.EBSOptimized, Encryption: "supported", NVMe: k.NVMe},
		Network: networkInfo{
			Performance: k.Network, Interfaces: k.Interfaces, Cards: 1, IPv4: k.AddressesEach, IPv6: k.AddressesEach,
			HasIPv6: k.CurrentGeneration, ENA: k.ENA, EncryptedNet: false,
			CardList: []networkCard{{Performance: k.Network, Interfaces: k.Interfaces}},
		},
		Placement: []string{"partition", "spread"}, Hibernation: k.Hibernation, Burstable: k.Burstable, Dedicated: !k.Burstable,
		Recovery: k.CurrentGeneration, BootModes: k.BootModes, Enclaves: supported(k.Enclave), TPM: supported(k.TPM),
	}
	if !k.Burstable {
		out.Placement = append([]string{"cluster"}, out.Placement...)
	}
	if !k.CurrentGeneration {
		out.Network.IPv6 = 0
	}
	if k.EBSMbps > 0 {
		out.EBS.Bandwidth = &ebsRate{k.EBSMbps}
	}
	if k.StoreGB > 0 {
		kind := "ssd"
		if !slices.Contains(k.Virtualization, "hvm") {
			kind = "hdd"
		}
		out.Store = &storeInfo{GB: k.StoreGB, NVMe: "unsupported", Disks: []storeDisk{{k.StoreGB / k.StoreDisks, k.StoreDisks, kind}}}
	}
	if k.TPM {
		out.TPMInfo = &tpmInfo{[]string{"2.0"}}
	}
	return out
}

var typeFilters = ec2wire.FilterBy[instancetype.Type]{
	"auto-recovery-supported":                 func(k instancetype.Type) []string { return ec2wire.Bool(k.CurrentGeneration) },
	"bare-metal":                              func(instancetype.Type) []string { return ec2wire.Bool(false) },
	"burstable-performance-supported":         func(k instancetype.Type) []string { return ec2wire.Bool(k.Burstable) },
	"current-generation":                      func(k instancetype.Type) []string { return ec2wire.Bool(k.CurrentGeneration) },
	"dedicated-hosts-supported":               func(k instancetype.Type) []string { return ec2wire.Bool(!k.Burstable) },
	"ebs-info.ebs-optimized-support":          func(k instancetype.Type) []string { return ec2wire.One(k.EBSOptimized) },
	"ebs-info.encryption-support":             func(instancetype.Type) []string { return []string{"supported"} },
	"ebs-info.nvme-support":                   func(k instancetype.Type) []string { return ec2wire.One(k.NVMe) },
	"free-tier-eligible":                      func(k instancetype.Type) []string { return ec2wire.Bool(k.FreeTier) },
	"hibernation-supported":                   func(k instancetype.Type) []string { return ec2wire.Bool(k.Hibernation) },
	"hypervisor":                              func(k instancetype.Type) []string { return ec2wire.One(k.Hypervisor) },
	"instance-storage-supported":              func(k instancetype.Type) []string { return ec2wire.Bool(k.StoreGB > 0) },
	"instance-type":                           func(k instancetype.Type) []string { return ec2wire.One(k.Name) },
	"memory-info.size-in-mib":                 func(k instancetype.Type) []string { return ec2wire.One(strconv.Itoa(k.MemoryMiB)) },
	"network-info.ena-support":                func(k instancetype.Type) []string { return ec2wire.One(k.ENA) },
	"network-info.efa-supported":              func(instancetype.Type) []string { return ec2wire.Bool(false) },
	"network-info.ipv6-supported":             func(k instancetype.Type) []string { return ec2wire.Bool(k.CurrentGeneration) },
	"network-info.maximum-network-interfaces": func(k instancetype.Type) []string { return ec2wire.One(strconv.Itoa(k.Interfaces)) },
	"network-info.network-performance":        func(k instancetype.Type) []string { return ec2wire.One(k.Network) },
	"nitro-enclaves-support":                  func(k instancetype.Type) []string { return ec2wire.One(supported(k.Enclave)) },
	"nitro-tpm-support":                       func(k instancetype.Type) []string { return ec2wire.One(supported(k.TPM)) },
	"processor-info.manufacturer":             func(k instancetype.Type) []string { return ec2wire.One(k.Manufacturer) },
	"processor-info.supported-architecture":   func(k instancetype.Type) []string { return k.Architectures },
	"supported-boot-mode":                     func(k instancetype.Type) []string { return k.BootModes },
	"supported-root-device-type":              rootDevices,
	"supported-usage-class":                   usageClasses,
	"supported-virtualization-type":           func(k instancetype.Type) []string { return k.Virtualization },
	"vcpu-info.default-vcpus":                 func(k instancetype.Type) []string { return ec2wire.One(strconv.Itoa(k.VCPUs)) },
	"vcpu-info.default-threads-per-core":      func(k instancetype.Type) []string { return ec2wire.One(strconv.Itoa(k.ThreadsPerCore)) },
	"vcpu-info.default-cores": func(k instancetype.Type) []string {
		return ec2wire.One(strconv.Itoa(k.VCPUs / max(1, k.ThreadsPerCore)))
	},
	"nitro-tpm-info.supported-versions": func(k instancetype.Type) []string {
		if !k.TPM {
			return nil
		}
		return []string{"2.0"}
	},
	"processor-info.sustained-clock-speed-in-ghz": func(k instancetype.Type) []string {
		return ec2wire.One(strconv.FormatFloat(k.ClockGHz, 'f', -1, 64))
	},
}

// typesIn are the types that a region or zone offers.
func typesIn(where string) []instancetype.Type {
	return slices.DeleteFunc(instancetype.All(), func(k instancetype.Type) bool { return !k.OfferedIn(where) })
}

type describeTypesIn struct {
	listIn
	Names []string `q:"InstanceType"`
}

type describeTypesOut struct {
	Types []typeInfo `xml:"instanceTypeSet>item"`
	Next  string     `xml:"nextToken,omitempty"`
}

func (a *api) describeTypes(_ context.Context, c *awswire.Call, in *describeTypesIn) (*describeTypesOut, error) {
	if in.MaxResults != 0 && len(in.Names) > 0 {
		return nil, awswire.Errorf("InvalidParameterCombination", "The parameter instanceTypes cannot be used with the parameter maxResults")
	}
	all, err := pick(typesIn(c.Region), in.Names, func(k instancetype.Type) string { return k.Name }, func(name string) error {
		return awswire.Errorf("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
	})
	if err != nil {
		return nil, err
	}
	if all, err = typeFilters.Match(in.Filters, all, noTags[instancetype.Type]); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 100)
	if err != nil {
		return nil, err
	}
	return &describeTypesOut{Types: ec2wire.Mapped(page, toType), Next: next}, in.Check()
}

type offering struct {
	Type     string `xml:"instanceType"`
	Kind     string `xml:"locationType"`
	Location string `xml:"location"`
}

var offeringFilters = ec2wire.FilterBy[offering]{
	"instance-type": func(o offering) []string { return ec2wire.One(o.Type) },
	"location":      func(o offering) []string { return ec2wire.One(o.Location) },
}

type describeOfferingsIn struct {
	listIn
	Kind string `q:"LocationType"`
}

type describeOfferingsOut struct {
	Offerings []offering `xml:"instanceTypeOfferingSet>item"`
	Next      string     `xml:"nextToken,omitempty"`
}

func (a *api) describeOfferings(_ context.Context, c *awswire.Call, in *describeOfferingsIn) (*describeOfferingsOut, error) {
	var all []offering
	add := func(where, kind, location string) {
		for _, k := range typesIn(where) {
			all = append(all, offering{Type: k.Name, Kind: kind, Location: location})
		}
	}
	switch in.Kind {
	case "", "region":
		add(c.Region, "region", c.Region)
	case "availability-zone":
		for _, z := range localcloud.Zones(c.Region) {
			add(z.Name, in.Kind, z.Name)
		}
	case "availability-zone-id":
		for _, z := range localcloud.Zones(c.Region) {
			add(z.Name, in.Kind, z.ID)
		}
	default:
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter locationType is invalid. It must be region, availability-zone or availability-zone-id", in.Kind)
	}
	all, err := offeringFilters.Match(in.Filters, all, noTags[offering])
	if err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeOfferingsOut{Offerings: page, Next: next}, in.Check()
}

// A span is a range of numbers that is open where it says nothing.
type span struct {
	Min *float64 `q:"Min"`
	Max *float64 `q:"Max"`
}

func (s span) has(v float64) bool {
	return (s.Min == nil || v >= *s.Min) && (s.Max == nil || v <= *s.Max)
}

type typesForIn struct {
	ec2wire.DryRun
	ec2wire.Page
	Architectures  []string `q:"ArchitectureType,required"`
	Virtualization []string `q:"VirtualizationType,required"`
	Want           struct {
		VCPUs         span     `q:"VCpuCount,required"`
		MemoryMiB     span     `q:"MemoryMiB,required"`
		GiBPerVCPU    span     `q:"MemoryGiBPerVCpu"`
		Manufacturers []string `q:"CpuManufacturer"`
		Generations   []string `q:"InstanceGeneration"`
		Allowed       []string `q:"AllowedInstanceType"`
		Excluded      []string `q:"ExcludedInstanceType"`
		BareMetal     string   `q:"BareMetal"`
		Burstable     string   `q:"BurstablePerformance"`
		LocalStorage  string   `q:"LocalStorage"`
		Hibernate     bool     `q:"RequireHibernateSupport"`
	} `q:"InstanceRequirements,required"`
}

type typeName struct {
	Name string `xml:"instanceType"`
}

type typesForOut struct {
	Types []typeName `xml:"instanceTypeSet>item"`
	Next  string     `xml:"nextToken,omitempty"`
}

func (a *api) typesFor(_ context.Context, c *awswire.Call, in *typesForIn) (*typesForOut, error) {
	w := &in.Want
	if w.VCPUs.Min == nil || w.MemoryMiB.Min == nil {
		return nil, awswire.Errorf("MissingParameter", "InstanceRequirements need VCpuCount.Min and MemoryMiB.Min")
	}
	if len(w.Allowed) > 0 && len(w.Excluded) > 0 {
		return nil, awswire.Errorf("InvalidParameterCombination", "AllowedInstanceTypes and ExcludedInstanceTypes cannot be used together")
	}
	for name, v := range map[string]string{"BareMetal": w.BareMetal, "BurstablePerformance": w.Burstable, "LocalStorage": w.LocalStorage} {
		if v != "" && v != "included" && v != "required" && v != "excluded" {
			return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be included, required or excluded", v, name)
		}
	}
	all := slices.DeleteFunc(typesIn(c.Region), func(k instancetype.Type) bool { return !in.fits(k) })
	page, next, err := ec2wire.Slice(in.Page, all, 1, 1000)
	if err != nil {
		return nil, err
	}
	return &typesForOut{Types: ec2wire.Mapped(page, func(k instancetype.Type) typeName { return typeName{k.Name} }), Next: next}, in.Check()
}

func (in *typesForIn) fits(k instancetype.Type) bool {
	w := &in.Want
	named := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return ec2wire.Wildcard(p, k.Name) })
	}
	generation := "previous"
	if k.CurrentGeneration {
		generation = "current"
	}
	return slices.ContainsFunc(in.Architectures, k.Arch) && slices.ContainsFunc(in.Virtualization, k.Virt) &&
		w.VCPUs.has(float64(k.VCPUs)) && w.MemoryMiB.has(float64(k.MemoryMiB)) &&
		w.GiBPerVCPU.has(float64(k.MemoryMiB)/1024/float64(k.VCPUs)) &&
		(len(w.Manufacturers) == 0 || slices.Contains(w.Manufacturers, manufacturerName(k))) &&
		(len(w.Generations) == 0 || slices.Contains(w.Generations, generation)) &&
		(len(w.Allowed) == 0 || named(w.Allowed)) && !named(w.Excluded) &&
		wanted(w.BareMetal, "excluded", false) && wanted(w.Burstable, "excluded", k.Burstable) &&
		wanted(w.LocalStorage, "included", k.StoreGB > 0) && (!w.Hibernate || k.Hibernation)
}

// manufacturerName is how requirements name the maker of a processor.
func manufacturerName(k instancetype.Type) string {
	if k.Manufacturer == "AWS" {
		return "amazon-web-services"
	}
	return strings.ToLower(k.Manufacturer)
}

// wanted reports whether a type with or without a property is let through.
func wanted(how, otherwise string, has bool) bool {
	if how == "" {
		how = otherwise
	}
	return how == "included" || (how == "required") == has
}
