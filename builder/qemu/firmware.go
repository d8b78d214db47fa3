package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/internal/diag"
)

// findFirmware returns the EFI firmware and the template of its variables:
// those of the options, else Packer's defaults, else where distributions have
// them.
func (c *Config) findFirmware() (code, vars string, err error) {
	pairs := [][2]string{{c.EFIFirmwareCode, c.EFIFirmwareVars}}
	if c.EFIFirmwareCode == "" {
		pairs = [][2]string{
			{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
			{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
			{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
			{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
		}
		if c.arch() == "aarch64" {
			pairs = [][2]string{
				{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
				{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
			}
		}
	}
	for _, p := range pairs {
		_, err1 := os.Stat(p[0])
		_, err2 := os.Stat(p[1])
		if err1 == nil && err2 == nil {
			return p[0], p[1], nil
		}
		if err == nil {
			err = errors.Join(err1, err2)
		}
	}
	return "", "", diag.WithHint(fmt.Errorf("EFI firmware: %w", err),
		"install it (Debian: ovmf), or name its files with efi_firmware_code and efi_firmware_vars")
}

func (m *machine) copyFirmwareVars(dir string) error {
	if !m.cfg.EFIBoot {
		return nil
	}
	_, vars, err := m.cfg.findFirmware()
	if err != nil {
		return err
	}
	src, err := os.Open(vars)
	if err != nil {
		return fmt.Errorf("EFI variables: %w", err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, efiVarsName))
	if err != nil {
		return fmt.Errorf("EFI variables: %w", err)
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
