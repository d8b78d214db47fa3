package artifact

import (
	"fmt"
	"strings"
)

// Arch is a processor architecture. Images of different architectures never
// mix.
type Arch string

// The architectures known here. The spelling is the one of EC2's API
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html).
const (
	X8664 Arch = "x86_64"
	ARM64 Arch = "arm64"
	I386  Arch = "i386"
)

// ParseArch maps the spellings in use (Debian's, Go's, QEMU's, the clouds') to
// an [Arch].
func ParseArch(s string) (Arch, error) {
	switch strings.ToLower(s) {
	case "x86_64", "x86-64", "amd64", "x64", "x86_64_mac":
		return X8664, nil
	case "arm64", "aarch64", "arm64_mac":
		return ARM64, nil
	case "i386", "i486", "i586", "i686", "386", "x86":
		return I386, nil
	}
	return "", fmt.Errorf("architecture %q is not one of x86_64, arm64, i386", s)
}

// Virt is a virtualization type: how the guest's kernel meets the hypervisor.
type Virt string

// The virtualization types.
const (
	HVM         Virt = "hvm"
	Paravirtual Virt = "paravirtual"
)

// BootMode is the firmware an image boots with.
type BootMode string

// The boot modes, in EC2's spelling.
const (
	BIOS          BootMode = "legacy-bios"
	UEFI          BootMode = "uefi"
	UEFIPreferred BootMode = "uefi-preferred" // boots with either
)
