// Package qemu makes images in a QEMU virtual machine on this computer: the
// builder "qemu".
//
// The machine's files lie in a folder beside the output folder while it runs,
// and become the output folder in one rename when the image is complete: what
// is there is whole. A build from a disk image runs on a qcow2 overlay; the
// image itself is never written to. The guest is shut down by its own means,
// the power button being the last of them. A machine that was killed, or whose
// QEMU ended in any other way, is never sealed.
package qemu

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/download"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/vm"
)

const (
	builderID   = "transcend.qemu" // Packer's
	artifactID  = "VM"             // Packer's
	efiVarsName = "efivars.fd"     // Packer's
	consoleName = "console.log"    // in the build's folder; the pipeline keeps *.log
	qemuLogName = "qemu.log"
)

// Driver describes the builder "qemu".
func Driver() builder.Driver {
	d := builder.NewDriver("qemu", open)
	d.Reopen, d.Sweep = reopen, sweep
	return d
}

// state is what the journal knows of a build.
type state struct {
	Work      string      // name of the folder of the machine's files, beside the output folder
	Inode     uint64      // of that folder, which shows whether the output folder is ours
	VM        vm.Identity // QEMU
	TPM       vm.Identity // swtpm
	Halted    bool        // the guest has shut down cleanly
	Compacted bool        // the disks are final
	Disks     []diskState // in order, the system disk first; final once Compacted
	Published bool        // the folder became, or is about to become, the output folder
}

type diskState struct {
	Name   string // file name
	Format string
	Size   int64  // virtual, in bytes
	Digest string // "sha256:<hex>", "" until it is final
}

// machine is an opened builder, with what lives only as long as this process.
type machine struct {
	cfg  Config
	info builder.Info
	img  vm.Img

	medium   download.Result // what iso_url names; zero with iso_skip_cache
	baseInfo vm.ImageInfo    // of the medium when it is a disk image

	key     keyPair // for this build, zero when the user has a credential
	hostKey keyPair // handed to the guest, zero when it is not
	keyFile string  // path of the private key

	floppyPath, cdPath string
	http               *httpServer
	httpIP             string
	tpm                *vm.Process
	proc               *vm.Process
	hostPort           int
	vncPassword        secret.String
	conn               communicator.Communicator // nil until connected

	mu       sync.Mutex
	stopped  error // why the machine was stopped by us, while it ran
	tcgCause string
}

// keyPair is an SSH key.
type keyPair struct {
	private secret.String // PEM
	public  string        // a line of authorized_keys
	comment string
}

var _ builder.Builder = (*builder.Machine[state])(nil)

func open(c Config, info builder.Info) (builder.Builder, error) {
	if err := c.prepare(info.Name); err != nil {
		// Warnings alone do not keep the builder from being opened, but they
		// are handed on.
		m := &machine{cfg: c, info: info}
		for _, e := range diag.Flatten(err) {
			var f *diag.FieldError
			if !errors.As(e, &f) || !f.Warn {
				return nil, err
			}
		}
		return m.steps(), err
	}
	m := &machine{cfg: c, info: info}
	return m.steps(), nil
}

func (m *machine) steps() builder.Builder {
	return &builder.Machine[state]{
		Intends: m.intent,
		Checks:  m.check,
		Resolve: m.resolve,
		Boots: []builder.Step[state]{
			{Name: "medium", Do: m.getMedium},
			{Name: "work-folder", Do: m.makeWork, Undo: m.removeWork},
			{Name: "ssh-key", Do: m.makeKeys},
			{Name: "media", Do: m.makeMedia},
			{Name: "disks", Do: m.makeDisks},
			{Name: "http", Do: m.startHTTP, Undo: m.stopHTTP},
			{Name: "sockets", Do: m.nameSockets, Undo: m.removeSockets},
			{Name: "tpm", Do: m.startTPM, Undo: m.stopTPM},
			{Name: "vm", Do: m.startVM, Undo: m.stopVM},
			{Name: "boot-command", Do: m.typeBoot},
		},
		Connect: m.connect,
		Seals: []builder.Step[state]{
			{Name: "shutdown", Do: m.shutdown},
			{Name: "compact", Do: m.compact},
			{Name: "publish", Do: m.publish, Undo: m.unpublish, Product: true},
		},
		Result: m.result,
		Where:  m.where,
		Holds:  m.holds,
	}
}

// result describes the published folder.
func (m *machine) result(_ context.Context, _ *builder.Run, s *state) (artifact.Set, error) {
	files, err := m.files()
	if err != nil {
		return artifact.Set{}, err
	}
	boot := artifact.BIOS
	if m.cfg.EFIBoot || m.cfg.imageArch() == artifact.ARM64 {
		boot = artifact.UEFI
	}
	img := artifact.SystemImage{
		Ref:  artifact.Ref{Provider: "qemu", ID: filepath.ToSlash(filepath.Join(m.cfg.OutputDir, s.Disks[0].Name))},
		Name: m.cfg.VMName, Arch: m.cfg.imageArch(), Virtualization: artifact.HVM, Boot: boot,
		Digest: s.Disks[0].Digest, Created: time.Now().UTC().Truncate(time.Second),
	}
	for _, d := range s.Disks {
		img.Disks = append(img.Disks, artifact.Disk{
			Path: filepath.ToSlash(filepath.Join(m.cfg.OutputDir, d.Name)), Format: d.Format, Size: d.Size, Digest: d.Digest,
		})
	}
	return artifact.Set{
		BuilderID: builderID, ID: artifactID, Text: "VM files in directory: " + m.cfg.OutputDir,
		Images: []artifact.SystemImage{img}, Files: files, Dir: m.cfg.OutputDir,
		Data: map[string]string{
			"diskName": s.Disks[0].Name, "diskType": s.Disks[0].Format, "diskSize": strconv.FormatInt(s.Disks[0].Size, 10),
			"domainType": m.domainType(),
		},
	}, nil
}
