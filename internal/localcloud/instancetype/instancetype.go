// Package instancetype knows EC2's instance types: what each one offers there,
// and what this machine gives for it.
// https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-types.html
package instancetype

import (
	"cmp"
	"slices"
	"strings"
)

// A Type is one instance type, such as t3.micro.
type Type struct {
	Name              string
	VCPUs             int
	ThreadsPerCore    int
	MemoryMiB         int
	Architectures     []string // x86_64 i386 arm64
	Manufacturer      string   // of the processor
	ClockGHz          float64  // sustained
	Hypervisor        string   // xen nitro
	Virtualization    []string // hvm paravirtual
	BootModes         []string // legacy-bios uefi
	ENA               string   // unsupported supported required
	NVMe              string   // how volumes appear: unsupported required
	EBSOptimized      string   // unsupported supported default
	EBSMbps           int      // baseline bandwidth, 0 where it is not stated
	Network           string   // performance, in the provider's words
	Interfaces        int
	AddressesEach     int // IPv4, per interface
	Enclave           bool
	TPM               bool // NitroTPM 2.0
	Burstable         bool
	FreeTier          bool
	CurrentGeneration bool
	Hibernation       bool
	StoreGB           int // instance store, 0 for none
	StoreDisks        int
	family            *family
}

// Get returns the type with a name.
func Get(name string) (Type, bool) {
	i, ok := slices.BinarySearchFunc(all, name, func(t Type, name string) int { return cmp.Compare(t.Name, name) })
	if !ok {
		return Type{}, false
	}
	return all[i], true
}

// All returns every type by name. The slice is the caller's.
func All() []Type { return slices.Clone(all) }

// Size is the part of the name after the dot.
func (t Type) Size() string {
	_, size, _ := strings.Cut(t.Name, ".")
	return size
}

// The bounds of what a machine gets here.
const (
	leastMiB   = 512
	hostShares = 8 // a machine gets no more than this part of the host's memory
)

// Scale returns the processors and the memory that an instance of the type
// gets on a host: as the type says, but no more processors than the host has,
// no more than an eighth of its memory (rounded down to 128 MiB, so that
// several run at a time), and no less than 512 MiB.
func (t Type) Scale(hostCPUs, hostMemoryMiB int) (cpus, memoryMiB int) {
	cpus = max(1, min(t.VCPUs, hostCPUs))
	most := hostMemoryMiB / hostShares / 128 * 128
	return cpus, max(leastMiB, min(t.MemoryMiB, most))
}

// Arch reports whether the type runs an architecture, in EC2's spelling.
func (t Type) Arch(arch string) bool { return slices.Contains(t.Architectures, arch) }

// Virt reports whether the type runs images of a virtualization type.
func (t Type) Virt(virt string) bool { return slices.Contains(t.Virtualization, virt) }

// Boot returns the mode in which an instance of an image with a boot mode
// ("" for none) boots; ok is false when the type cannot boot it.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-boot.html
func (t Type) Boot(image string) (mode string, ok bool) {
	switch image {
	case "uefi", "legacy-bios":
		return image, slices.Contains(t.BootModes, image)
	case "uefi-preferred":
		if slices.Contains(t.BootModes, "uefi") {
			return "uefi", true
		}
		return "legacy-bios", slices.Contains(t.BootModes, "legacy-bios")
	case "":
		// The type's own default: UEFI on Graviton, BIOS elsewhere.
		return t.BootModes[0], true
	}
	return "", false
}

// OfferedIn reports whether a region, or one of its zones, has the type. The
// first generations are in the oldest regions only, and the latest have not
// come to every zone: a template that takes either for granted fails here as
// it does there.
func (t Type) OfferedIn(regionOrZone string) bool {
	region := strings.TrimRight(regionOrZone, "abcdef")
	switch {
	case t.family.old:
		return slices.Contains(oldest, region)
	case t.family.latest:
		return !strings.HasSuffix(regionOrZone, "c") || region == "us-east-1"
	}
	return true
}

var oldest = []string{
	"ap-northeast-1", "ap-southeast-1", "ap-southeast-2", "eu-west-1", "sa-east-1", "us-east-1", "us-west-1", "us-west-2",
}

// SpotUSD is a price per hour that is near the provider's and never changes.
func (t Type) SpotUSD() float64 {
	return float64(t.VCPUs)*0.0075 + float64(t.MemoryMiB)/1024*0.001
}
