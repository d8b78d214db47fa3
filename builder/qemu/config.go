package qemu

import (
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
)

// Config is the options of the builder. Names, types and defaults are
// Packer's, except where a comment says otherwise.
type Config struct {
	communicator.Config

	ISOURL             string   `hcl:"iso_url"`
	ISOURLs            []string `hcl:"iso_urls"`
	ISOChecksum        string   `hcl:"iso_checksum"`
	ISOTargetPath      string   `hcl:"iso_target_path"`
	ISOTargetExtension string   `hcl:"iso_target_extension"`
	ISOSkipCache       bool     `hcl:"iso_skip_cache"`

	DiskImage          bool        `hcl:"disk_image"`
	UseBackingFile     bool        `hcl:"use_backing_file"`
	DiskSize           string      `hcl:"disk_size"`
	AdditionalDiskSize []string    `hcl:"disk_additional_size"`
	Format             string      `hcl:"format"`
	DiskInterface      string      `hcl:"disk_interface"`
	DiskCache          string      `hcl:"disk_cache"`
	DiskDiscard        string      `hcl:"disk_discard"`
	DetectZeroes       string      `hcl:"disk_detect_zeroes"`
	DiskCompression    bool        `hcl:"disk_compression"`
	SkipCompaction     bool        `hcl:"skip_compaction"`
	SkipResizeDisk     bool        `hcl:"skip_resize_disk"`
	QemuImgArgs        QemuImgArgs `hcl:"qemu_img_args,block"`

	Accelerator     string     `hcl:"accelerator"`
	MachineType     string     `hcl:"machine_type"`
	MemorySize      int        `hcl:"memory"` // MiB
	CPUs            int        `hcl:"cpus"`
	Sockets         int        `hcl:"sockets"`
	Cores           int        `hcl:"cores"`
	Threads         int        `hcl:"threads"`
	CPUModel        string     `hcl:"cpu_model"`
	Firmware        string     `hcl:"firmware"`
	PFlash          bool       `hcl:"use_pflash"`
	EFIBoot         bool       `hcl:"efi_boot"`
	EFIFirmwareCode string     `hcl:"efi_firmware_code"`
	EFIFirmwareVars string     `hcl:"efi_firmware_vars"`
	EFIDropVars     bool       `hcl:"efi_drop_efivars"`
	VTPM            bool       `hcl:"vtpm"`
	TPM1            bool       `hcl:"use_tpm1"`
	TPMDeviceType   string     `hcl:"tpm_device_type"`
	QemuBinary      string     `hcl:"qemu_binary"`
	QemuArgs        [][]string `hcl:"qemuargs,late"`

	NetDevice         string `hcl:"net_device"`
	NetBridge         string `hcl:"net_bridge"`
	SkipNATMapping    bool   `hcl:"skip_nat_mapping"`
	HostPortMin       int    `hcl:"host_port_min"`
	HostPortMax       int    `hcl:"host_port_max"`
	SSHHostPortMin    int    `hcl:"ssh_host_port_min"` // deprecated name
	SSHHostPortMax    int    `hcl:"ssh_host_port_max"` // deprecated name
	Headless          bool   `hcl:"headless"`
	UseDefaultDisplay bool   `hcl:"use_default_display"`
	Display           string `hcl:"display"`
	VGA               string `hcl:"vga"`
	VNCBindAddress    string `hcl:"vnc_bind_address"`
	VNCUsePassword    bool   `hcl:"vnc_use_password"`
	VNCPassword       string `hcl:"vnc_password"`
	VNCPortMin        int    `hcl:"vnc_port_min"`
	VNCPortMax        int    `hcl:"vnc_port_max"`
	DisableVNC        bool   `hcl:"disable_vnc"`
	QMPEnable         bool   `hcl:"qmp_enable"`
	QMPSocketPath     string `hcl:"qmp_socket_path"`

	// SSHHostKeyCheck says whether the guest must show the host key that is
	// handed to it as the systemd credential ingot.ssh_host_ed25519_key. Unset:
	// when the image has shown once that it takes it. Not an option of Packer.
	SSHHostKeyCheck *bool `hcl:"ssh_host_key_check"`

	BootCommand       []string      `hcl:"boot_command,late"`
	BootSteps         [][]string    `hcl:"boot_steps,late"`
	BootWait          time.Duration `hcl:"boot_wait"`
	BootKeyInterval   time.Duration `hcl:"boot_key_interval"`
	BootGroupInterval time.Duration `hcl:"boot_keygroup_interval"`
	RunOnce           bool          `hcl:"run_once"` // deprecated, without effect

	CDROMInterface string            `hcl:"cdrom_interface"`
	CDFiles        []string          `hcl:"cd_files"`
	CDContent      map[string]string `hcl:"cd_content"`
	CDLabel        string            `hcl:"cd_label"`
	FloppyFiles    []string          `hcl:"floppy_files"`
	FloppyDirs     []string          `hcl:"floppy_dirs"`
	FloppyContent  map[string]string `hcl:"floppy_content"`
	FloppyLabel    string            `hcl:"floppy_label"`

	HTTPDir             string            `hcl:"http_directory"`
	HTTPContent         map[string]string `hcl:"http_content"`
	HTTPPortMin         int               `hcl:"http_port_min"`
	HTTPPortMax         int               `hcl:"http_port_max"`
	HTTPAddress         string            `hcl:"http_bind_address"`
	HTTPInterface       string            `hcl:"http_interface"`
	HTTPNetworkProtocol string            `hcl:"http_network_protocol"`

	OutputDir       string        `hcl:"output_directory"`
	VMName          string        `hcl:"vm_name"`
	ShutdownCommand string        `hcl:"shutdown_command"`
	ShutdownTimeout time.Duration `hcl:"shutdown_timeout"`
}

// QemuImgArgs are further arguments of qemu-img's commands.
type QemuImgArgs struct {
	Convert []string `hcl:"convert"`
	Create  []string `hcl:"create"`
	Resize  []string `hcl:"resize"`
}
