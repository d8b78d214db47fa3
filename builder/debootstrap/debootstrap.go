// Package debootstrap makes a bootable Debian disk image from packages: a
// builder that starts from nothing, for the base image the other builders
// start from.
//
// mmdebstrap makes the root file system, without root where the host allows
// it, and hands it over as a tar stream. From there on nothing on the host
// needs a privilege: no loop device, no mount. The stream becomes an ext4 file
// system in a disk file ([ext4] of e2fsprogs, driven by debugfs so that every
// owner, time and inode number is decided here and not by the host), next to
// an EFI system partition and a BIOS boot partition with GRUB, made from the
// GRUB packages of the image itself. The same image boots with BIOS and UEFI.
//
// Two runs with the same options, the same archive and the same
// SOURCE_DATE_EPOCH give the same bytes.
//
// # The guest
//
// The image boots systemd, asks for an address by DHCP on every Ethernet
// device, and serves SSH. It has no password and no key of its own. It takes
// from systemd credentials, which a hypervisor hands over as SMBIOS type 11
// strings (https://systemd.io/CREDENTIALS/):
//
//	ssh.authorized_keys.USER      public keys that may log in as USER
//	ingot.ssh_host_ed25519_key    private host key
//
// Both are in force for that boot only and live in /run: neither is ever
// written to the disk. Without a host key from outside, the guest makes its own
// on its first boot. A disk or CD labelled cidata (cloud-init's NoCloud layout)
// is read for a host name and for SSH keys, with the same promise. The root
// file system grows to the size of the disk.
//
// # In EC2
//
// Where the firmware says "Amazon EC2", which the local cloud's does too, the
// guest asks the instance metadata service (version 2) before it serves SSH:
//
//   - The instance's key pair may log in as admin, as in Debian's own images.
//     The user is made when it is missing and has sudo without a password. The
//     key is in /run.
//   - The host name is the instance's private one.
//   - An instance that is new to this disk gets host keys of its own, so copies
//     of a machine do not share them, and runs its user data once when it is a
//     script (it begins with "#!", plain or gzip), as root, after SSH is up.
//     cloud-init's other formats are not handled, which is logged.
//   - The public host keys are printed on the console between the lines "BEGIN
//     SSH HOST KEY KEYS" and "END SSH HOST KEY KEYS", as cloud-init does.
//   - In the local cloud, disks have the names they were attached under
//     (/dev/xvdf and /dev/sdf).
//
// A boot anywhere else does not wait for any of it.
package debootstrap

import (
	"context"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
)

// builderID marks the artifacts made here.
const builderID = "ingot.debootstrap"

// Driver describes the builder "debootstrap".
func Driver() builder.Driver {
	d := builder.NewDriver("debootstrap", open)
	d.Reopen, d.Sweep = reopen, sweep
	return d
}

// image is an opened builder.
type image struct {
	cfg  Config
	info builder.Info
	arch arch
	size int64 // of the disk, in bytes
}

// state is what the journal knows of a build.
type state struct {
	Work   string // scratch folder next to the output folder
	Digest string // of the finished file, "sha256:<hex>"; set before it is published
	Epoch  int64  // SOURCE_DATE_EPOCH of the build, in seconds
	// Published says that Output is about to become ours, or is.
	Published bool
}

func open(cfg Config, info builder.Info) (builder.Builder, error) {
	size, err := cfg.prepare(info)
	if err != nil {
		return nil, err
	}
	a, err := archOf(cfg.Architecture)
	if err != nil {
		return nil, err
	}
	return (&image{cfg: cfg, info: info, arch: a, size: size}).machine(), nil
}

func (b *image) machine() *builder.Machine[state] {
	return &builder.Machine[state]{
		Where:   b.where,
		Holds:   b.holds,
		Intends: b.intent,
		Checks:  b.check,
		Boots: []builder.Step[state]{
			{Name: "workspace", Do: b.makeWorkspace, Undo: b.removeWorkspace},
		},
		Seals: []builder.Step[state]{
			{Name: "image", Do: b.makeImage, Undo: b.removeImage, Product: true},
		},
		Result: func(_ context.Context, r *builder.Run, s *state) (artifact.Set, error) {
			return b.result(r, s)
		},
	}
}
