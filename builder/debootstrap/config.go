package debootstrap

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
)

// Config is the options of a source "debootstrap".
type Config struct {
	Suite         string   `hcl:"suite"`            // Debian release by code name (bookworm)
	Mirrors       []string `hcl:"mirrors"`          // URIs, or whole "deb …" lines; default: what the host's apt uses for the suite, else Debian's own
	Components    []string `hcl:"components"`       // archive areas (main)
	Keyring       string   `hcl:"keyring"`          // file or folder with the archive's keys, where they are not the host's
	Architecture  string   `hcl:"architecture"`     // amd64 or arm64 (the host's)
	Variant       string   `hcl:"variant"`          // mmdebstrap's package set (minbase)
	KernelPackage string   `hcl:"kernel_package"`   // linux-image-cloud-ARCH
	Packages      []string `hcl:"packages"`         // further packages
	Mode          string   `hcl:"mode"`             // mmdebstrap's way to be root: auto, root, unshare, fakechroot (auto)
	Hostname      string   `hcl:"hostname"`         // debian
	Locale        string   `hcl:"locale"`           // C.UTF-8
	Timezone      string   `hcl:"timezone"`         // Etc/UTC
	KernelCmdline string   `hcl:"kernel_cmdline"`   // appended to the kernel's command line
	SetupCommands []string `hcl:"setup_commands"`   // run by sh in the new system, as root, before it is packed
	DiskSize      string   `hcl:"disk_size"`        // with K, M, G or T; MiB without (4G)
	BootMode      string   `hcl:"boot_mode"`        // both, bios or uefi (both; uefi on arm64)
	Format        string   `hcl:"format"`           // qcow2 or raw (qcow2)
	Compress      bool     `hcl:"compress"`         // compress a qcow2 image: smaller, slower to boot
	OutputDir     string   `hcl:"output_directory"` // output-BUILDNAME; must not exist
	ImageName     string   `hcl:"image_name"`       // file name without its extension (debian-SUITE-ARCH)
	SourceDate    *int     `hcl:"source_date_epoch"`
}

var (
	suiteName   = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+~:-]+|/[a-z-]+)?$`)
	hostName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	localeName  = regexp.MustCompile(`^[A-Za-z0-9_.@-]+$`)
	component   = regexp.MustCompile(`^[a-z][a-z0-9/-]*$`)
	fileName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
	sizeText    = regexp.MustCompile(`^([0-9]+)\s*([kKmMgGtT]?)(?:i?[bB])?$`)
)

// minDisk is the smallest disk that holds the default packages, in bytes.
const minDisk = 1 << 30

// prepare sets the defaults and returns the size of the disk in bytes and
// every fault.
func (c *Config) prepare(info builder.Info) (size int64, err error) {
	c.defaults(info)
	var errs []error
	fault := func(path, format string, args ...any) { errs = append(errs, diag.Fieldf(path, format, args...)) }
	match := func(path, value string, re *regexp.Regexp, what string) {
		if !re.MatchString(value) {
			fault(path, "%q is not %s", value, what)
		}
	}
	oneOf := func(path, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			fault(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
		}
	}
	match("suite", c.Suite, suiteName, `the code name of a Debian release, such as "bookworm"`)
	for i, m := range c.Mirrors {
		if err := checkMirror(m); err != nil {
			fault(fmt.Sprintf("mirrors[%d]", i), "%w", err)
		}
	}
	for i, v := range c.Components {
		match(fmt.Sprintf("components[%d]", i), v, component, `an archive area, such as "main"`)
	}
	for i, p := range c.Packages {
		match(fmt.Sprintf("packages[%d]", i), p, packageName, "a package name")
	}
	match("kernel_package", c.KernelPackage, packageName, "a package name")
	a, aerr := archOf(c.Architecture)
	if aerr != nil {
		fault("architecture", "%w", aerr)
	} else if c.BootMode != "uefi" && a.grubBIOS == "" {
		fault("boot_mode", "%s machines boot with UEFI only", c.Architecture)
	}
	oneOf("variant", c.Variant, "essential", "apt", "required", "minbase", "buildd", "important", "standard")
	oneOf("mode", c.Mode, "auto", "root", "unshare", "fakechroot")
	oneOf("boot_mode", c.BootMode, "both", "bios", "uefi")
	oneOf("format", c.Format, "qcow2", "raw")
	if c.Compress && c.Format != "qcow2" {
		errs = append(errs, diag.Fieldsf([]string{"compress", "format"}, "only a qcow2 image can be compressed; the post-processor \"compress\" packs any file"))
	}
	match("hostname", c.Hostname, hostName, "a host name")
	match("locale", c.Locale, localeName, "a locale")
	match("timezone", c.Timezone, zoneName, `a time zone, such as "Europe/Berlin"`)
	match("image_name", c.ImageName, fileName, "a plain file name")
	if strings.ContainsAny(c.KernelCmdline, "\n\r'\\$\"`;{}#&|<>") {
		fault("kernel_cmdline", "quotes, line ends and the characters \\ $ ; { } # & | < > have a meaning for GRUB and are not possible")
	}
	if c.SourceDate != nil && *c.SourceDate < 0 {
		fault("source_date_epoch", "is a number of seconds since 1970, never negative")
	}
	size, serr := parseSize(c.DiskSize)
	switch {
	case serr != nil:
		fault("disk_size", "%w", serr)
	case size < minDisk:
		fault("disk_size", "a Debian system needs 1G at least")
	}
	return size, errors.Join(errs...)
}

func (c *Config) defaults(info builder.Info) {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.Suite, "bookworm")
	set(&c.Architecture, runtime.GOARCH)
	if a, err := archOf(c.Architecture); err == nil {
		c.Architecture = a.debian
		if a.grubBIOS == "" {
			set(&c.BootMode, "uefi")
		}
	}
	set(&c.Variant, "minbase")
	set(&c.KernelPackage, "linux-image-cloud-"+c.Architecture)
	set(&c.Mode, "auto")
	set(&c.Hostname, "debian")
	set(&c.Locale, "C.UTF-8")
	set(&c.Timezone, "Etc/UTC")
	set(&c.DiskSize, "4G")
	set(&c.BootMode, "both")
	set(&c.Format, "qcow2")
	set(&c.OutputDir, "output-"+info.Name)
	set(&c.ImageName, "debian-"+c.Suite+"-"+c.Architecture)
	if len(c.Components) == 0 {
		c.Components = []string{"main"}
	}
	c.OutputDir = filepath.Clean(c.OutputDir)
}

// parseSize reads a size as QEMU writes it. A bare number is MiB, as in
// Packer's disk_size. The result is whole MiB.
func parseSize(s string) (int64, error) {
	m := sizeText.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, fmt.Errorf("%q is not a size such as 4G or 4096M", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: %w", s, err)
	}
	shift := map[string]uint{"": 20, "k": 10, "m": 20, "g": 30, "t": 40}[strings.ToLower(m[2])]
	const most = 16 << 40 // what ext4 holds with blocks of 4 KiB and 32-bit block numbers
	if n > most>>shift {
		return 0, fmt.Errorf("%s is more than 16T", s)
	}
	return (n << shift) &^ (1<<20 - 1), nil
}

// fileName is the name of the finished image.
func (c *Config) fileName() string { return c.ImageName + "." + c.Format }

// boots reports whether the image boots with the firmware, "bios" or "uefi".
func (c *Config) boots(firmware string) bool { return c.BootMode == "both" || c.BootMode == firmware }
