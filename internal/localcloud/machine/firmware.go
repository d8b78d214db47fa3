package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
)

// emulators are the programs and the Debian packages they are in.
var emulators = map[string][2]string{
	"x86_64": {"qemu-system-x86_64", "qemu-system-x86"},
	"arm64":  {"qemu-system-aarch64", "qemu-system-arm"},
}

// efiFiles are where distributions keep EFI firmware and the template of its
// variables.
var efiFiles = map[string][][2]string{
	"x86_64": {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	},
	"arm64": {
		{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
		{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
	},
}

// firmware returns the EFI code for s, "" for BIOS, and gives the machine its
// own variables, which it keeps over restarts.
func (s *Spec) firmware() (string, error) {
	mode := s.BootMode
	if mode == "" && s.Arch == "arm64" {
		mode = "uefi"
	}
	if mode == "" || mode == "legacy-bios" {
		return "", nil
	}
	for _, pair := range efiFiles[s.Arch] {
		if _, err := os.Stat(pair[0]); err != nil {
			continue
		}
		vars := filepath.Join(s.Dir, varsFile)
		if _, err := os.Stat(vars); err == nil {
			return pair[0], nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		data, err := os.ReadFile(pair[1])
		if err != nil {
			return "", fmt.Errorf("EFI variables: %w", err)
		}
		return pair[0], atomicfile.Write(vars, data, 0o600)
	}
	if mode == "uefi-preferred" && s.Arch == "x86_64" {
		return "", nil
	}
	pkg := "ovmf"
	if s.Arch == "arm64" {
		pkg = "qemu-efi-aarch64"
	}
	return "", diag.WithHint(fmt.Errorf("no EFI firmware for %s machines is installed", s.Arch), "apt install %s", pkg)
}
