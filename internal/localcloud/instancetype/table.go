package instancetype

import (
	"cmp"
	"slices"
)

// A family has all that its types have in common.
type family struct {
	name         string
	arch         []string
	manufacturer string
	clock        float64
	nitro        bool
	virt         []string
	boot         []string
	ena, ebs     string
	network      string
	threads      int
	enclaveVCPUs int // types with as many have enclaves; 0: none
	tpm          bool
	burst        bool
	current      bool
	hibernation  bool
	old, latest  bool
	gibPerVCPU   float64  // memory of the sizes that have none of their own
	sizes        []string // of the common ones
	own          []size   // that are of this family only
}

type size struct {
	name      string
	vcpus     int
	memoryMiB int
	i386      bool
	free      bool
	storeGB   int
	disks     int
}

// common sizes: processors, interfaces, addresses of each, and the EBS
// bandwidth in Mbps of current families.
var common = map[string]struct{ vcpus, interfaces, addresses, ebs int }{
	"nano":    {2, 2, 2, 43},
	"micro":   {2, 2, 2, 87},
	"small":   {2, 3, 4, 174},
	"medium":  {1, 2, 4, 315},
	"large":   {2, 3, 10, 650},
	"xlarge":  {4, 4, 15, 1150},
	"2xlarge": {8, 4, 15, 2300},
	"4xlarge": {16, 8, 30, 4750},
}

var (
	x86      = []string{"x86_64"}
	x86And32 = []string{"i386", "x86_64"}
	arm      = []string{"arm64"}

	hvm     = []string{"hvm"}
	pv      = []string{"paravirtual"}
	hvmOrPV = []string{"hvm", "paravirtual"}

	bios       = []string{"legacy-bios"}
	biosOrUEFI = []string{"legacy-bios", "uefi"}
	uefi       = []string{"uefi"}

	fromLarge  = []string{"large", "xlarge", "2xlarge", "4xlarge"}
	fromMedium = []string{"medium", "large", "xlarge", "2xlarge", "4xlarge"}
)

// The sizes of burstable families.
var (
	t2Sizes = []size{
		{name: "nano", vcpus: 1, memoryMiB: 512, i386: true},
		{name: "micro", vcpus: 1, memoryMiB: 1024, i386: true, free: true},
		{name: "small", vcpus: 1, memoryMiB: 2048, i386: true},
		{name: "medium", vcpus: 2, memoryMiB: 4096, i386: true},
		{name: "large", vcpus: 2, memoryMiB: 8192},
		{name: "xlarge", vcpus: 4, memoryMiB: 16384},
		{name: "2xlarge", vcpus: 8, memoryMiB: 32768},
	}
	t3Sizes = []size{
		{name: "nano", vcpus: 2, memoryMiB: 512},
		{name: "micro", vcpus: 2, memoryMiB: 1024, free: true},
		{name: "small", vcpus: 2, memoryMiB: 2048},
		{name: "medium", vcpus: 2, memoryMiB: 4096},
		{name: "large", vcpus: 2, memoryMiB: 8192},
		{name: "xlarge", vcpus: 4, memoryMiB: 16384},
		{name: "2xlarge", vcpus: 8, memoryMiB: 32768},
	}
)

// xen returns a family on the Xen hypervisor.
func xen(name string, f family) family {
	f.name, f.manufacturer, f.boot = name, "Intel", bios
	f.arch = cmpSlice(f.arch, x86)
	f.ena, f.ebs = cmp.Or(f.ena, "unsupported"), cmp.Or(f.ebs, "unsupported")
	f.network = cmp.Or(f.network, "Moderate")
	return f
}

// intel, amd and graviton return families on the Nitro hypervisor.
func intel(name string, f family) family {
	f.manufacturer = "Intel"
	return nitroX86(name, f)
}

func amd(name string, f family) family {
	f.manufacturer = "AMD"
	return nitroX86(name, f)
}

func nitroX86(name string, f family) family {
	f.name, f.nitro, f.arch, f.virt, f.boot = name, true, x86, hvm, biosOrUEFI
	f.ena, f.ebs, f.threads, f.tpm, f.current, f.hibernation = "required", "default", cmp.Or(f.threads, 2), true, true, true
	if !f.burst {
		f.enclaveVCPUs = 4
	}
	if f.own == nil {
		f.sizes = cmpSlice(f.sizes, fromLarge)
	}
	return f
}

func graviton(name string, f family) family {
	f.name, f.manufacturer, f.nitro, f.arch, f.virt, f.boot = name, "AWS", true, arm, hvm, uefi
	f.ena, f.ebs, f.threads, f.current, f.hibernation = "required", "default", 1, true, true
	if !f.burst {
		f.enclaveVCPUs = 2
	}
	if f.own == nil {
		f.sizes = fromMedium
	}
	return f
}

func cmpSlice(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

var families = []family{
	xen("t1", family{arch: x86And32, virt: pv, network: "Very Low", old: true, own: []size{{name: "micro", vcpus: 1, memoryMiB: 627, i386: true, free: true}}}),
	xen("m1", family{virt: pv, old: true, ebs: "supported", own: []size{
		{name: "small", vcpus: 1, memoryMiB: 1740, i386: true, storeGB: 160, disks: 1},
		{name: "medium", vcpus: 1, memoryMiB: 3788, i386: true, storeGB: 410, disks: 1},
		{name: "large", vcpus: 2, memoryMiB: 7680, storeGB: 840, disks: 2},
		{name: "xlarge", vcpus: 4, memoryMiB: 15360, storeGB: 1680, disks: 4},
	}}),
	xen("c1", family{virt: pv, old: true, own: []size{
		{name: "medium", vcpus: 2, memoryMiB: 1740, i386: true, storeGB: 350, disks: 1},
		{name: "xlarge", vcpus: 8, memoryMiB: 7168, storeGB: 1680, disks: 4},
	}}),
	xen("m3", family{virt: hvmOrPV, clock: 2.5, old: true, hibernation: true, own: []size{
		{name: "medium", vcpus: 1, memoryMiB: 3840, storeGB: 4, disks: 1},
		{name: "large", vcpus: 2, memoryMiB: 7680, storeGB: 32, disks: 1},
		{name: "xlarge", vcpus: 4, memoryMiB: 15360, storeGB: 80, disks: 2},
		{name: "2xlarge", vcpus: 8, memoryMiB: 30720, storeGB: 160, disks: 2},
	}}),
	xen("c3", family{virt: hvmOrPV, clock: 2.8, threads: 2, old: true, hibernation: true, own: []size{
		{name: "large", vcpus: 2, memoryMiB: 3840, i386: true, storeGB: 32, disks: 2},
		{name: "xlarge", vcpus: 4, memoryMiB: 7680, storeGB: 80, disks: 2},
		{name: "2xlarge", vcpus: 8, memoryMiB: 15360, storeGB: 160, disks: 2},
		{name: "4xlarge", vcpus: 16, memoryMiB: 30720, storeGB: 320, disks: 2},
	}}),
	xen("t2", family{virt: hvm, network: "Low to Moderate", burst: true, current: true, hibernation: true, own: t2Sizes}),
	xen("m4", family{virt: hvm, clock: 2.4, threads: 2, ebs: "default", current: true, hibernation: true, gibPerVCPU: 4, sizes: fromLarge}),
	xen("c4", family{virt: hvm, clock: 2.9, threads: 2, ebs: "default", current: true, hibernation: true, gibPerVCPU: 1.875, sizes: fromLarge}),
	xen("r4", family{virt: hvm, clock: 2.3, threads: 2, ena: "supported", ebs: "default", network: "Up to 10 Gigabit", current: true, hibernation: true, gibPerVCPU: 7.625, sizes: fromLarge}),

	intel("t3", family{clock: 2.5, network: "Up to 5 Gigabit", burst: true, own: t3Sizes}),
	amd("t3a", family{clock: 2.2, network: "Up to 5 Gigabit", burst: true, own: t3Sizes}),
	graviton("t4g", family{clock: 2.5, network: "Up to 5 Gigabit", burst: true, own: t3Sizes}),

	intel("m5", family{clock: 3.1, network: "Up to 10 Gigabit", gibPerVCPU: 4}),
	amd("m5a", family{clock: 2.5, network: "Up to 10 Gigabit", gibPerVCPU: 4}),
	intel("m6i", family{clock: 3.5, network: "Up to 12.5 Gigabit", gibPerVCPU: 4}),
	amd("m6a", family{clock: 3.6, network: "Up to 12.5 Gigabit", gibPerVCPU: 4}),
	graviton("m6g", family{clock: 2.5, network: "Up to 10 Gigabit", gibPerVCPU: 4}),
	intel("m7i", family{clock: 3.2, network: "Up to 12.5 Gigabit", gibPerVCPU: 4}),
	amd("m7a", family{clock: 3.7, network: "Up to 12.5 Gigabit", gibPerVCPU: 4, threads: 1, sizes: fromMedium}),
	graviton("m7g", family{clock: 2.6, network: "Up to 12.5 Gigabit", gibPerVCPU: 4}),
	graviton("m8g", family{clock: 2.8, network: "Up to 12.5 Gigabit", gibPerVCPU: 4, latest: true}),

	intel("c5", family{clock: 3.4, network: "Up to 10 Gigabit", gibPerVCPU: 2}),
	amd("c5a", family{clock: 3.3, network: "Up to 10 Gigabit", gibPerVCPU: 2}),
	intel("c6i", family{clock: 3.5, network: "Up to 12.5 Gigabit", gibPerVCPU: 2}),
	amd("c6a", family{clock: 3.6, network: "Up to 12.5 Gigabit", gibPerVCPU: 2}),
	graviton("c6g", family{clock: 2.5, network: "Up to 10 Gigabit", gibPerVCPU: 2}),
	intel("c7i", family{clock: 3.2, network: "Up to 12.5 Gigabit", gibPerVCPU: 2}),
	amd("c7a", family{clock: 3.7, network: "Up to 12.5 Gigabit", gibPerVCPU: 2, threads: 1, sizes: fromMedium}),
	graviton("c7g", family{clock: 2.6, network: "Up to 12.5 Gigabit", gibPerVCPU: 2}),
	graviton("c8g", family{clock: 2.8, network: "Up to 12.5 Gigabit", gibPerVCPU: 2, latest: true}),

	intel("r5", family{clock: 3.1, network: "Up to 10 Gigabit", gibPerVCPU: 8}),
	amd("r5a", family{clock: 2.5, network: "Up to 10 Gigabit", gibPerVCPU: 8}),
	intel("r6i", family{clock: 3.5, network: "Up to 12.5 Gigabit", gibPerVCPU: 8}),
	amd("r6a", family{clock: 3.6, network: "Up to 12.5 Gigabit", gibPerVCPU: 8}),
	graviton("r6g", family{clock: 2.5, network: "Up to 10 Gigabit", gibPerVCPU: 8}),
	intel("r7i", family{clock: 3.2, network: "Up to 12.5 Gigabit", gibPerVCPU: 8}),
	amd("r7a", family{clock: 3.7, network: "Up to 12.5 Gigabit", gibPerVCPU: 8, threads: 1, sizes: fromMedium}),
	graviton("r7g", family{clock: 2.6, network: "Up to 12.5 Gigabit", gibPerVCPU: 8}),
	graviton("r8g", family{clock: 2.8, network: "Up to 12.5 Gigabit", gibPerVCPU: 8, latest: true}),
}

// all are the types by name.
var all = expand()

func expand() []Type {
	var out []Type
	for i := range families {
		f := &families[i]
		for _, s := range f.own {
			out = append(out, f.typeOf(s))
		}
		for _, name := range f.sizes {
			v := common[name].vcpus
			out = append(out, f.typeOf(size{name: name, vcpus: v, memoryMiB: int(float64(v) * f.gibPerVCPU * 1024)}))
		}
	}
	slices.SortFunc(out, func(a, b Type) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (f *family) typeOf(s size) Type {
	c := common[s.name]
	t := Type{
		Name: f.name + "." + s.name, VCPUs: s.vcpus, ThreadsPerCore: min(max(1, f.threads), s.vcpus), MemoryMiB: s.memoryMiB,
		Architectures: f.arch, Manufacturer: f.manufacturer, ClockGHz: f.clock,
		Hypervisor: "xen", Virtualization: f.virt, BootModes: f.boot, ENA: f.ena, NVMe: "unsupported",
		EBSOptimized: f.ebs, Network: f.network, Interfaces: c.interfaces, AddressesEach: c.addresses,
		Enclave: f.enclaveVCPUs > 0 && s.vcpus >= f.enclaveVCPUs, TPM: f.tpm, Burstable: f.burst, FreeTier: s.free,
		CurrentGeneration: f.current, Hibernation: f.hibernation, StoreGB: s.storeGB, StoreDisks: s.disks, family: f,
	}
	if s.i386 {
		t.Architectures = x86And32
	}
	if f.nitro {
		t.Hypervisor, t.NVMe = "nitro", "required"
	}
	if f.ebs == "default" {
		t.EBSMbps = c.ebs
	}
	return t
}
