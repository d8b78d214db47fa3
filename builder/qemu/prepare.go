package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/download"
	"github.com/ingot-build/ingot/internal/vm/bootcommand"
)

// defaultDiskSize is 40 GiB.
const defaultDiskSize = "40960M"

// prepare checks c and sets its defaults; name is the source's.
func (c *Config) prepare(name string) error {
	var errs []error
	fault := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	oneOf := func(opt, got string, known ...string) {
		if !slices.Contains(known, got) {
			fault(diag.Fieldf(opt, "%q is not known; it is one of %s", got, strings.Join(known, ", ")))
		}
	}
	// A key made for one build is of a kind that is made at once, and that
	// OpenSSH knows since 5.7 and FIPS mode allows.
	if c.TemporaryKeyPairType == "" && c.TemporaryKeyPairBits == 0 {
		c.TemporaryKeyPairType, c.TemporaryKeyPairBits = "ecdsa", 256
	}
	fault(c.Config.Prepare())

	set(&c.VMName, "packer-"+name)
	set(&c.OutputDir, "output-"+name)
	if filepath.Base(c.VMName) != c.VMName || c.VMName == "." || c.VMName == ".." {
		fault(diag.Fieldf("vm_name", "is a file name and cannot be %q", c.VMName))
	}
	if filepath.Clean(c.OutputDir) == "." || filepath.Clean(c.OutputDir) == "/" {
		fault(diag.Fieldf("output_directory", "is made new and cannot be %q", c.OutputDir))
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 5 * time.Minute
	}
	if c.ShutdownTimeout < 0 {
		fault(diag.Fieldf("shutdown_timeout", "must not be negative"))
	}

	c.prepareMedium(fault)
	c.prepareDisks(fault, oneOf)
	c.prepareMachine(fault, oneOf)
	c.prepareNetwork(fault, oneOf)
	c.prepareBoot(fault)
	return errors.Join(errs...)
}

func set[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

func (c *Config) prepareMedium(fault func(error)) {
	switch {
	case c.ISOURL != "" && len(c.ISOURLs) > 0:
		fault(diag.Fieldsf([]string{"iso_url", "iso_urls"}, "cannot be used together with iso_urls"))
	case c.ISOURL != "":
		c.ISOURLs = []string{c.ISOURL}
	case len(c.ISOURLs) == 0:
		fault(diag.Fieldsf([]string{"iso_url", "iso_urls"}, "one of iso_url and iso_urls must be set"))
	}
	for _, u := range c.ISOURLs {
		if err := download.CheckURL(u); err != nil {
			fault(diag.Fieldsf([]string{"iso_url", "iso_urls"}, "%w", err))
		}
	}
	if c.ISOChecksum == "" {
		fault(diag.Fieldf("iso_checksum", `must be set; "none" asks for no check`))
	} else if sum, err := download.ParseChecksum(c.ISOChecksum); err != nil {
		fault(diag.Fieldf("iso_checksum", "%w", err))
	} else if sum.None() {
		fault(&diag.FieldError{Paths: []string{"iso_checksum"}, Warn: true, Err: errors.New(
			`with "none" a changed or damaged file is not noticed`)})
	}
	set(&c.ISOTargetExtension, "iso")
	c.ISOTargetExtension = strings.ToLower(c.ISOTargetExtension)
	if c.ISOSkipCache && c.DiskImage {
		fault(diag.Fieldsf([]string{"iso_skip_cache", "disk_image"}, "needs an installation medium: a disk image to start from is always fetched"))
	}
}

func (c *Config) prepareDisks(fault func(error), oneOf func(opt, got string, known ...string)) {
	set(&c.DiskSize, defaultDiskSize)
	if _, err := parseSize(c.DiskSize); err != nil {
		fault(diag.Fieldf("disk_size", "%w", err))
	}
	for i, s := range c.AdditionalDiskSize {
		if _, err := parseSize(s); err != nil {
			fault(diag.Fieldf(fmt.Sprintf("disk_additional_size[%d]", i), "%w", err))
		}
	}
	set(&c.Format, "qcow2")
	oneOf("format", c.Format, "qcow2", "raw")
	set(&c.DiskInterface, "virtio")
	oneOf("disk_interface", c.DiskInterface, "ide", "sata", "scsi", "sd", "virtio", "virtio-scsi")
	set(&c.DiskCache, "writeback")
	oneOf("disk_cache", c.DiskCache, "writethrough", "writeback", "none", "unsafe", "directsync")
	set(&c.DiskDiscard, "ignore")
	oneOf("disk_discard", c.DiskDiscard, "unmap", "ignore")
	set(&c.DetectZeroes, "off")
	oneOf("disk_detect_zeroes", c.DetectZeroes, "unmap", "on", "off")
	if c.UseBackingFile {
		if !c.DiskImage {
			fault(diag.Fieldsf([]string{"use_backing_file", "disk_image"}, "needs disk_image = true"))
		}
		if c.Format != "qcow2" {
			fault(diag.Fieldsf([]string{"use_backing_file", "format"}, `needs format = "qcow2"`))
		}
	}
	if c.SkipResizeDisk && !c.DiskImage {
		fault(diag.Fieldsf([]string{"skip_resize_disk", "disk_image"}, "needs disk_image = true"))
	}
	if c.UseBackingFile || c.Format == "raw" {
		c.SkipCompaction = true
	}
	if c.DiskCompression && c.SkipCompaction {
		fault(&diag.FieldError{
			Paths: []string{"disk_compression", "skip_compaction", "format", "use_backing_file"}, Warn: true,
			Err: errors.New("has no effect: the disk is compressed while it is compacted, which is skipped"),
		})
	}
}

func (c *Config) prepareMachine(fault func(error), oneOf func(opt, got string, known ...string)) {
	set(&c.QemuBinary, "qemu-system-x86_64")
	if c.Accelerator != "" {
		oneOf("accelerator", c.Accelerator, "none", "kvm", "tcg", "xen", "hax", "hvf", "whpx")
	}
	if c.MachineType == "" {
		c.MachineType = "pc"
		if a := c.arch(); a != "x86_64" && a != "i386" {
			c.MachineType = "virt" // where there is no PC
		}
	}
	if c.MemorySize < 10 {
		c.MemorySize = 512
	}
	for opt, n := range map[string]int{"cpus": c.CPUs, "sockets": c.Sockets, "cores": c.Cores, "threads": c.Threads} {
		if n < 0 {
			fault(diag.Fieldf(opt, "must not be negative"))
		}
	}
	if topology := max(c.Sockets, 1) * max(c.Cores, 1) * max(c.Threads, 1); c.Sockets+c.Cores+c.Threads > 0 {
		if c.CPUs == 0 || c.CPUs > topology {
			c.CPUs = topology
		}
	}
	set(&c.CPUs, 1)
	if c.EFIFirmwareCode != "" || c.EFIFirmwareVars != "" {
		c.EFIBoot = true
	}
	if c.EFIBoot && (c.EFIFirmwareCode == "") != (c.EFIFirmwareVars == "") {
		fault(diag.Fieldsf([]string{"efi_firmware_code", "efi_firmware_vars"}, "are given together: a firmware and the variables made for it"))
	}
	set(&c.TPMDeviceType, "tpm-tis")
	for i, a := range c.QemuArgs {
		if len(a) == 0 || a[0] == "" {
			fault(diag.Fieldf(fmt.Sprintf("qemuargs[%d]", i), "begins with a switch, such as [\"-m\", \"1024M\"]"))
		}
		for _, v := range a {
			if _, err := parseTemplate(v); err != nil {
				fault(diag.Fieldf(fmt.Sprintf("qemuargs[%d]", i), "%w", err))
			}
		}
	}
}

func (c *Config) prepareNetwork(fault func(error), oneOf func(opt, got string, known ...string)) {
	set(&c.NetDevice, "virtio-net")
	set(&c.HostPortMin, c.SSHHostPortMin)
	set(&c.HostPortMax, c.SSHHostPortMax)
	ports := func(lowName string, low *int, lowDef int, highName string, high *int, highDef int) {
		set(low, lowDef)
		set(high, highDef)
		if *low < 1 || *high > 65535 || *low > *high {
			fault(diag.Fieldsf([]string{lowName, highName}, "ports %d to %d are not a range within 1 to 65535", *low, *high))
		}
	}
	ports("host_port_min", &c.HostPortMin, 2222, "host_port_max", &c.HostPortMax, 4444)
	ports("vnc_port_min", &c.VNCPortMin, 5900, "vnc_port_max", &c.VNCPortMax, 6000)
	ports("http_port_min", &c.HTTPPortMin, 8000, "http_port_max", &c.HTTPPortMax, 9000)
	if c.VNCPortMin < 5900 {
		fault(diag.Fieldf("vnc_port_min", "must be 5900 at least, which is VNC's display 0"))
	}
	set(&c.VNCBindAddress, "127.0.0.1")
	if len(c.VNCPassword) > 8 {
		fault(diag.Fieldf("vnc_password", "has 8 characters at most"))
	}
	if c.VNCPassword != "" {
		c.VNCUsePassword = true
	}
	// Ingot drives the machine through a control connection of its own, so a
	// VNC password or a bridge need no further one.
	if c.QMPSocketPath != "" {
		c.QMPEnable = true
	}
	if c.HTTPDir != "" && len(c.HTTPContent) > 0 {
		fault(diag.Fieldsf([]string{"http_directory", "http_content"}, "cannot be used together with http_content"))
	}
	if c.HTTPDir != "" {
		if st, err := os.Stat(c.HTTPDir); err != nil {
			fault(diag.Fieldf("http_directory", "%w", err))
		} else if !st.IsDir() {
			fault(diag.Fieldf("http_directory", "%s is not a folder", c.HTTPDir))
		}
	}
	set(&c.HTTPNetworkProtocol, "tcp")
	oneOf("http_network_protocol", c.HTTPNetworkProtocol, "tcp", "tcp4", "tcp6")
}

func (c *Config) prepareBoot(fault func(error)) {
	both := []string{"boot_command", "boot_steps"}
	if len(c.BootCommand) > 0 && len(c.BootSteps) > 0 {
		fault(diag.Fieldsf(both, "cannot be used together with boot_steps"))
	}
	if c.DisableVNC && len(c.BootCommand)+len(c.BootSteps) > 0 {
		fault(diag.Fieldsf([]string{"disable_vnc", "boot_command", "boot_steps"}, "a boot command is typed through VNC, which is disabled"))
	}
	try := func(opt, text string) {
		t, err := parseTemplate(text)
		if err != nil {
			fault(diag.Fieldf(opt, "%w", err))
			return
		}
		var b strings.Builder
		if err := t.Execute(&b, typedData{HTTPIP: "10.0.2.2", HTTPPort: c.HTTPPortMin, Name: c.VMName, SSHPublicKey: "key"}); err != nil {
			fault(diag.Fieldf(opt, "%w", err))
			return
		}
		if _, err := bootcommand.Parse(b.String()); err != nil {
			fault(diag.Fieldf(opt, "%w", err))
		}
	}
	if len(c.BootCommand) > 0 {
		try("boot_command", strings.Join(c.BootCommand, ""))
	}
	for i, s := range c.BootSteps {
		opt := fmt.Sprintf("boot_steps[%d]", i)
		if len(s) == 0 || len(s) > 2 {
			fault(diag.Fieldf(opt, "is [command, description]"))
			continue
		}
		try(opt, s[0])
	}
	set(&c.BootWait, 10*time.Second)
	c.BootWait = max(c.BootWait, 0)
	if c.BootKeyInterval == 0 {
		c.BootKeyInterval = 100 * time.Millisecond
		if v := os.Getenv("PACKER_KEY_INTERVAL"); v != "" {
			if d, err := time.ParseDuration(v); err == nil {
				c.BootKeyInterval = d
			} else {
				fault(diag.Fieldf("boot_key_interval", "PACKER_KEY_INTERVAL: %w", err))
			}
		}
	}
	c.BootKeyInterval = max(c.BootKeyInterval, 0)
	c.BootGroupInterval = max(c.BootGroupInterval, 0)
	set(&c.CDLabel, "packer")
	set(&c.FloppyLabel, "packer")
	if len(c.CDLabel) > 32 {
		fault(diag.Fieldf("cd_label", "has 32 characters at most"))
	}
	if err := c.floppy().Check(); err != nil {
		fault(diag.Fieldsf([]string{"floppy_files", "floppy_dirs", "floppy_content"}, "%w", err))
	}
	if err := c.cd().Check(); err != nil {
		fault(diag.Fieldsf([]string{"cd_files", "cd_content"}, "%w", err))
	}
	if c.RunOnce {
		fault(&diag.FieldError{Paths: []string{"run_once"}, Warn: true, Err: errors.New("is deprecated and has no effect")})
	}
}

// parseTemplate reads an option that is rendered when the build runs.
func parseTemplate(text string) (*template.Template, error) {
	return template.New("").Option("missingkey=error").Parse(text)
}

// parseSize reads digits and one of b, k, m, g, t; without a unit it is
// mebibytes. It returns bytes.
func parseSize(s string) (int64, error) {
	const example = `such as "40960M" or "40G"`
	digits, unit := s, int64(1<<20)
	if n := len(s); n > 0 && (s[n-1] < '0' || s[n-1] > '9') {
		digits = s[:n-1]
		shift := strings.IndexByte("bkmgt", strings.ToLower(s)[n-1])
		if shift < 0 {
			return 0, fmt.Errorf("size %q has a unit other than b, k, m, g, t; it is %s", s, example)
		}
		unit = 1 << (10 * shift)
	}
	v, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(v) > (1<<62)/unit {
		return 0, fmt.Errorf("size %q is not digits and a unit, %s", s, example)
	}
	return int64(v) * unit, nil
}
