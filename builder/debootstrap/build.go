package debootstrap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
)

// tools are the programs needed and the Debian packages they are in.
func (b *image) tools() map[string]string {
	t := map[string]string{
		"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "e2fsck": "e2fsprogs",
	}
	if b.cfg.Format != "raw" {
		t["qemu-img"] = "qemu-utils"
	}
	if b.cfg.boots("uefi") {
		t["mformat"], t["mmd"], t["mcopy"] = "mtools", "mtools", "mtools"
	}
	return t
}

// check finds missing programs and an output folder in the way.
func (b *image) check(context.Context) error {
	var missing, packages []string
	need := b.tools()
	for _, name := range sortedKeys(need) {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
			if !strings.Contains(" "+strings.Join(packages, " ")+" ", " "+need[name]+" ") {
				packages = append(packages, need[name])
			}
		}
	}
	var errs []error
	if len(missing) > 0 {
		errs = append(errs, diag.WithHint(fmt.Errorf("not found in PATH: %s", strings.Join(missing, ", ")),
			"apt-get install %s (mke2fs, debugfs and e2fsck are in /usr/sbin)", strings.Join(packages, " ")))
	}
	switch taken, err := b.outputTaken(); {
	case err != nil:
		errs = append(errs, err)
	case taken && !b.info.Force:
		errs = append(errs, diag.WithHint(fmt.Errorf("output directory %s exists already", b.cfg.OutputDir),
			"remove it, name another output_directory, or build with -force to replace it"))
	}
	return errors.Join(errs...)
}

// outputTaken reports whether something is in the output folder's place. An
// empty folder is nothing.
func (b *image) outputTaken() (bool, error) {
	names, err := os.ReadDir(b.cfg.OutputDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(names) > 0, err
}

// makeWorkspace makes the scratch folder beside the output folder, where a
// finished image can be moved into place at once.
func (b *image) makeWorkspace(_ context.Context, r *builder.Run, s *state) error {
	out, err := filepath.Abs(b.cfg.OutputDir)
	if err != nil {
		return err
	}
	s.Work = filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+"."+r.Token("workspace"))
	if err := r.Save(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.MkdirAll(s.Work, 0o755)
}

func (b *image) removeWorkspace(_ context.Context, _ *builder.Run, s *state) error {
	if s.Work == "" {
		return nil
	}
	return os.RemoveAll(s.Work)
}

// epoch is the time every file of the image gets at most.
func (b *image) epoch() (int64, error) {
	if b.cfg.SourceDate != nil {
		return int64(*b.cfg.SourceDate), nil
	}
	env := os.Getenv("SOURCE_DATE_EPOCH") // https://reproducible-builds.org/specs/source-date-epoch/
	if env == "" {
		return time.Now().Unix(), nil
	}
	n, err := strconv.ParseInt(env, 10, 64)
	if err != nil || n < 0 {
		return 0, diag.WithHint(fmt.Errorf("SOURCE_DATE_EPOCH=%q is not a number of seconds since 1970", env), "unset it, or set source_date_epoch")
	}
	return n, nil
}

// identify derives what names the image's parts from the inputs, so that equal
// inputs give equal bytes and different ones never the same identifiers.
func (b *image) identify(epoch int64) (identity, error) {
	c := b.cfg
	c.OutputDir, c.ImageName, c.Format, c.Compress, c.Mode, c.SourceDate = "", "", "", false, "", nil
	inputs, err := json.Marshal(c)
	if err != nil {
		return identity{}, err
	}
	uuid := func(name string) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "ingot debootstrap 1\n%s\n%d\n%s", inputs, epoch, name))
		sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // RFC 9562, version 8
		h := hex.EncodeToString(sum[:16])
		return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	}
	return identity{
		disk: uuid("disk"), bios: uuid("bios"), esp: uuid("esp"), root: uuid("root"),
		fs: uuid("fs"), hash: uuid("hash"), serial: uuid("serial")[:8],
	}, nil
}

// makeImage makes the image in the scratch folder and moves it into place.
func (b *image) makeImage(ctx context.Context, r *builder.Run, s *state) error {
	if s.Published {
		if done, err := b.published(s); done || err != nil {
			return err
		}
		s.Published = false
	}
	work := filepath.Join(s.Work, "build")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(filepath.Join(work, "out"), 0o755)); err != nil {
		return err
	}
	epoch, err := b.epoch()
	if err != nil {
		return err
	}
	if s.Epoch == 0 || b.cfg.SourceDate != nil {
		s.Epoch = epoch
	}
	id, err := b.identify(s.Epoch)
	if err != nil {
		return err
	}
	r.Say("Making the root file system of Debian %s (%s) from packages...", b.cfg.Suite, b.cfg.Architecture)
	t, err := b.makeTree(ctx, r, work, id, s.Epoch)
	if err != nil {
		return err
	}
	r.Say("Writing %d files (%d MiB) and the boot loader into a disk of %s...", len(t.nodes), t.bytes>>20, b.cfg.DiskSize)
	raw := filepath.Join(work, "disk.raw")
	if err := b.makeDisk(ctx, r, work, raw, t, id, s.Epoch); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(work, "files")); err != nil {
		return err
	}
	final := filepath.Join(work, "out", b.cfg.fileName())
	if err := b.convert(ctx, r, raw, final); err != nil {
		return err
	}
	if s.Digest, err = digest(ctx, final); err != nil {
		return err
	}
	sum := fmt.Sprintf("%s  %s\n", strings.TrimPrefix(s.Digest, "sha256:"), b.cfg.fileName())
	if err := atomicfile.Write(final+".sha256", []byte(sum), 0o644); err != nil {
		return err
	}
	return b.publish(r, s, filepath.Join(work, "out"))
}

// makeDisk writes partitions, file systems and boot loaders.
func (b *image) makeDisk(ctx context.Context, r *builder.Run, work, raw string, t *tree, id identity, epoch int64) error {
	l := b.layout()
	if need := t.bytes + int64(len(t.nodes))*4096; need > l.rootLen*9/10 {
		return diag.WithHint(fmt.Errorf("the packages need %d MiB, the root partition of a disk of %s holds %d", need>>20, b.cfg.DiskSize, l.rootLen>>20), "raise disk_size")
	}
	if err := b.partition(raw, l, id); err != nil {
		return fmt.Errorf("partition the disk: %w", err)
	}
	stamp := strconv.FormatInt(epoch, 10)
	env := append(os.Environ(), "SOURCE_DATE_EPOCH="+stamp, "E2FSPROGS_FAKE_TIME="+stamp, "MKE2FS_CONFIG=/dev/null", "LC_ALL=C", "TZ=UTC", "MTOOLSRC=/dev/null")
	root := ext4{disk: raw, offset: l.rootStart, size: l.rootLen, id: id, epoch: epoch, env: env, out: r.Events, work: work}
	if err := root.make(ctx, t); err != nil {
		return fmt.Errorf("write the root file system: %w", err)
	}
	if l.biosLen > 0 {
		if err := embedBIOS(raw, l, t.boot["boot.img"], t.boot["core.img"]); err != nil {
			return err
		}
	}
	if l.espLen > 0 {
		if err := b.embedESP(ctx, work, raw, l, id, t.boot["efi.img"], env); err != nil {
			return fmt.Errorf("write the EFI system partition: %w", err)
		}
	}
	return nil
}

// convert makes the final file from the raw disk, which is used up.
func (b *image) convert(ctx context.Context, r *builder.Run, raw, final string) error {
	if b.cfg.Format == "raw" {
		return errors.Join(syncFile(raw), os.Rename(raw, final))
	}
	r.Say("Converting the disk to %s...", b.cfg.Format)
	args := []string{"convert", "-f", "raw", "-O", b.cfg.Format}
	if b.cfg.Compress {
		args = append(args, "-c", "-o", "compression_type=zstd")
	}
	if out, err := exec.CommandContext(ctx, "qemu-img", append(args, raw, final)...).CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("qemu-img convert: %w: %s", err, bytes.TrimSpace(out))
	}
	return errors.Join(syncFile(final), os.Remove(raw))
}

// publish moves the finished folder into place: all of it or nothing.
func (b *image) publish(r *builder.Run, s *state, from string) error {
	s.Published = true
	if err := r.Save(); err != nil {
		return err
	}
	taken, err := b.outputTaken()
	if err != nil {
		return err
	}
	if taken {
		if !b.info.Force {
			s.Published = false // somebody else's
			return fmt.Errorf("output directory %s appeared while the image was made", b.cfg.OutputDir)
		}
		if err := os.Rename(b.cfg.OutputDir, filepath.Join(s.Work, "replaced")); err != nil {
			return fmt.Errorf("replace %s: %w", b.cfg.OutputDir, err)
		}
	}
	// An empty folder makes way; a folder that has been filled meanwhile stays,
	// and then the rename fails.
	if err := os.Remove(b.cfg.OutputDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("publish: %w", err)
	}
	if err := os.Rename(from, b.cfg.OutputDir); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(b.cfg.OutputDir)); err != nil {
		return err
	}
	return os.RemoveAll(s.Work)
}

// published reports whether an earlier try of this build came to its end.
func (b *image) published(s *state) (bool, error) {
	got, err := digest(context.Background(), filepath.Join(b.cfg.OutputDir, b.cfg.fileName()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return got == s.Digest, err
}

// removeImage takes the published files away, when they are of this build.
func (b *image) removeImage(_ context.Context, _ *builder.Run, s *state) error {
	if !s.Published {
		return nil
	}
	if ours, err := b.published(s); !ours || err != nil {
		return err
	}
	return os.RemoveAll(b.cfg.OutputDir)
}

func (b *image) result(r *builder.Run, s *state) (artifact.Set, error) {
	name := b.cfg.fileName()
	path := filepath.Join(b.cfg.OutputDir, name)
	info, err := os.Stat(path)
	if err != nil {
		return artifact.Set{}, err
	}
	boot := map[string]artifact.BootMode{"both": artifact.UEFIPreferred, "bios": artifact.BIOS, "uefi": artifact.UEFI}[b.cfg.BootMode]
	return artifact.Set{
		BuilderID: builderID,
		ID:        b.cfg.ImageName,
		Text:      fmt.Sprintf("Debian %s %s disk image: %s", b.cfg.Suite, b.cfg.Architecture, path),
		Images: []artifact.SystemImage{{
			Ref:  artifact.Ref{Provider: "debootstrap", ID: filepath.ToSlash(path)},
			Name: b.cfg.ImageName, Arch: b.arch.name, Virtualization: artifact.HVM, Boot: boot, Digest: s.Digest,
			Disks: []artifact.Disk{{Path: filepath.ToSlash(path), Format: b.cfg.Format, Size: b.size, Digest: s.Digest}},
			Tags: map[string]string{
				"architecture": string(b.arch.name), "virtualization_type": string(artifact.HVM), "boot_mode": string(boot),
				"suite": b.cfg.Suite, "run_id": r.RunID,
			},
			Created: info.ModTime().UTC(),
		}},
		Files: []string{path, path + ".sha256"},
		Dir:   b.cfg.OutputDir,
	}, nil
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// digest reads a file and returns "sha256:<hex>".
func digest(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, mib)
	for {
		if err := context.Cause(ctx); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		_, _ = h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
