package machine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// copyImage copies a qcow2 file that nobody writes. A backing file that is
// named relative to the folder of src is named in full in dst.
func copyImage(ctx context.Context, src, dst string, made *[]string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	*made = append(*made, dst)
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, &untilDone{ctx, in}); err != nil {
		return err
	}
	return absoluteBacking(out, filepath.Dir(src))
}

// untilDone reads until its context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// absoluteBacking rewrites the backing file's name in a qcow2 header
// (https://www.qemu.org/docs/master/interop/qcow2.html) when it is relative to
// dir. The name is the last thing in the header's cluster.
func absoluteBacking(f *os.File, dir string) error {
	var head [24]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:4]) != "QFI\xfb" {
		return errors.New("not a qcow2 image")
	}
	offset, size := int64(binary.BigEndian.Uint64(head[8:])), int64(binary.BigEndian.Uint32(head[16:])) //nolint:gosec // checked below
	cluster := int64(1) << (binary.BigEndian.Uint32(head[20:]) & 31)
	switch {
	case offset == 0:
		return nil
	case offset < 0 || size > 1023 || offset > cluster-size:
		return errors.New("a qcow2 header whose backing file is out of place")
	}
	name := make([]byte, size)
	if _, err := f.ReadAt(name, offset); err != nil {
		return err
	}
	if strings.HasPrefix(string(name), "/") {
		return nil
	}
	full := filepath.Join(dir, string(name))
	if len(full) > 1023 || offset+int64(len(full)) > cluster {
		return fmt.Errorf("no room for the name %s in a qcow2 header", full)
	}
	if _, err := f.WriteAt([]byte(full), offset); err != nil {
		return err
	}
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(full))) //nolint:gosec // at most 1023
	_, err := f.WriteAt(n[:], 16)
	return err
}
