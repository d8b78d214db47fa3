package debootstrap

import (
	"fmt"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ingot-build/ingot/internal/artifact"
)

// arch is what differs between architectures.
type arch struct {
	name     artifact.Arch
	debian   string
	root     gpt.Type // partition type by which systemd finds a root file system
	console  string   // the serial console
	grubBIOS string   // GRUB platform and package; "" where there is no BIOS
	grubEFI  string
	efiFile  string // what firmware looks for on a removable disk
	packages map[string]string
}

// archOf returns the architecture by any of its names.
func archOf(name string) (arch, error) {
	a, err := artifact.ParseArch(name)
	if err != nil {
		return arch{}, err
	}
	switch a {
	case artifact.X8664:
		return arch{
			name: a, debian: "amd64", root: gpt.LinuxRootX86_64, console: "ttyS0,115200",
			grubBIOS: "i386-pc", grubEFI: "x86_64-efi", efiFile: "BOOTX64.EFI",
			packages: map[string]string{"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"},
		}, nil
	case artifact.ARM64:
		return arch{
			name: a, debian: "arm64", root: gpt.LinuxRootArm64, console: "ttyAMA0,115200",
			grubEFI: "arm64-efi", efiFile: "BOOTAA64.EFI",
			packages: map[string]string{"arm64-efi": "grub-efi-arm64-bin"},
		}, nil
	}
	return arch{}, fmt.Errorf("images for %s cannot be made here; amd64 and arm64 can", name)
}
