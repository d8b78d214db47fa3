package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

// Img works on disk images with the program qemu-img
// (https://www.qemu.org/docs/master/tools/qemu-img.html).
type Img struct {
	Binary string // "" for "qemu-img"
}

// An ImageInfo is what an image says of itself.
type ImageInfo struct {
	Format        string `json:"format"`
	VirtualSize   int64  `json:"virtual-size"` // bytes the guest sees
	ActualSize    int64  `json:"actual-size"`  // bytes allocated
	Backing       string `json:"full-backing-filename"`
	BackingFormat string `json:"backing-filename-format"`
	ClusterSize   int64  `json:"cluster-size"` // 0 for formats without clusters
}

// An ImgError is a failed qemu-img.
type ImgError struct {
	Op     string // "convert"
	Status int
	Stderr string
}

func (e *ImgError) Error() string {
	return fmt.Sprintf("qemu-img %s (exit status %d): %s", e.Op, e.Status, e.Stderr)
}

// A DamageError says that an image is not whole.
type DamageError struct {
	Path   string
	Detail string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("disk image %s is damaged: %s", e.Path, e.Detail)
}

func (t Img) run(ctx context.Context, op string, args ...string) ([]byte, error) {
	bin := t.Binary
	if bin == "" {
		bin = "qemu-img"
	}
	cmd := exec.CommandContext(ctx, bin, append([]string{op}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	var xe *exec.ExitError
	if !errors.As(err, &xe) {
		return nil, diag.WithHint(fmt.Errorf("qemu-img: %w", err), "install QEMU's disk tool (Debian: qemu-utils) and have it in PATH")
	}
	text := strings.TrimSpace(stderr.String())
	err = &ImgError{op, xe.ExitCode(), text}
	if strings.Contains(text, "No space left on device") {
		err = diag.WithHint(err, "the disk is full: make room, or put the output elsewhere")
	}
	return out.Bytes(), err
}

// Info reads the image at path, which may be in use.
func (t Img) Info(ctx context.Context, path string) (ImageInfo, error) {
	out, err := t.run(ctx, "info", "--output=json", "-U", path)
	if err != nil {
		return ImageInfo{}, err
	}
	var i ImageInfo
	if err := json.Unmarshal(out, &i); err != nil {
		return ImageInfo{}, fmt.Errorf("qemu-img info %s: %w", path, err)
	}
	return i, nil
}

// A NewImage describes an image to be made.
type NewImage struct {
	Path          string
	Format        string
	Size          int64  // bytes; 0 takes that of Backing
	Backing       string // image below, as the new one is to name it; "" for an empty disk
	BackingFormat string
	Extra         []string // further arguments
}

// Create makes an image, replacing a file that is there.
func (t Img) Create(ctx context.Context, n NewImage) error {
	args := []string{"-q", "-f", n.Format}
	if n.Backing != "" {
		args = append(args, "-b", n.Backing, "-F", n.BackingFormat)
	}
	args = append(append(args, n.Extra...), n.Path)
	if n.Size > 0 {
		args = append(args, strconv.FormatInt(n.Size, 10))
	}
	_, err := t.run(ctx, "create", args...)
	return err
}

// Resize gives the image a new size in bytes.
func (t Img) Resize(ctx context.Context, path, format string, size int64, extra []string) error {
	args := append([]string{"-q", "-f", format}, extra...)
	_, err := t.run(ctx, "resize", append(args, path, strconv.FormatInt(size, 10))...)
	return err
}

// A Conversion describes how an image is copied.
type Conversion struct {
	From, Format string // formats
	Compress     bool
	Extra        []string // further arguments
}

// Convert writes the whole content of src, images below it included, to a new
// image dst, leaving out what is zero. dst is not synced.
func (t Img) Convert(ctx context.Context, src, dst string, c Conversion) error {
	args := []string{"-q", "-f", c.From, "-O", c.Format, "-m", "16"}
	if c.Compress {
		args = append(args, "-c")
	} else {
		args = append(args, "-W") // out of order: compressed clusters cannot be
	}
	args = append(append(args, c.Extra...), src, dst)
	_, err := t.run(ctx, "convert", args...)
	return err
}

// Check returns *[DamageError] when the image at path is not consistent or is
// cut short. A format without consistency data passes; lost clusters, which
// only cost room, pass too.
func (t Img) Check(ctx context.Context, path, format string) error {
	info, err := t.Info(ctx, path)
	if err != nil {
		return err
	}
	out, err := t.run(ctx, "check", "--output=json", "-U", "-f", format, path)
	var ie *ImgError
	if err != nil && !errors.As(err, &ie) {
		return err
	}
	if ie != nil && ie.Status == 63 {
		return nil // the format does not support checks
	}
	var r struct {
		Corruptions int64 `json:"corruptions"`
		CheckErrors int64 `json:"check-errors"`
		End         int64 `json:"image-end-offset"`
	}
	if ie != nil && ie.Status == 1 || json.Unmarshal(out, &r) != nil {
		detail := "qemu-img check gave no answer"
		if ie != nil {
			detail = ie.Stderr
		}
		return &DamageError{path, detail}
	}
	if r.Corruptions > 0 || r.CheckErrors > 0 {
		return &DamageError{path, fmt.Sprintf("%d corruptions, %d errors while checking", r.Corruptions, r.CheckErrors)}
	}
	// The last cluster need not be written in full.
	if st, err := os.Stat(path); err == nil && r.End-st.Size() >= max(info.ClusterSize, 1) {
		return &DamageError{path, fmt.Sprintf("it is cut short: %d bytes of %d are there", st.Size(), r.End)}
	}
	return nil
}
