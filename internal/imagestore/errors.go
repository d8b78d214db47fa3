package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// A NotFoundError says that a layer or an upload is not in the store.
type NotFoundError struct {
	What string // "layer", "upload"
	Name string // digest, or upload id
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no %s %q in the image store", e.What, e.Name)
}

// Is makes it match [fs.ErrNotExist].
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// A DamageError says that a file is not what was written.
type DamageError struct {
	Path   string
	Digest string // of the layer; "" for other files
	Reason string
}

func (e *DamageError) Error() string {
	if e.Digest == "" {
		return fmt.Sprintf("%s is damaged: %s", e.Path, e.Reason)
	}
	return fmt.Sprintf("image layer %s is damaged: %s", e.Path, e.Reason)
}

// An UnsupportedError says that an image cannot be taken in as it is.
type UnsupportedError struct {
	Path   string
	Reason string
}

func (e *UnsupportedError) Error() string { return e.Path + ": " + e.Reason }

// A BusyError says that another process holds an upload.
type BusyError struct{ Upload string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("upload %q is in use by another process", e.Upload)
}

// imageError gives a fault of package qcow2 the file's name.
func imageError(path, digest string, err error) error {
	var ce *qcow2.CorruptError
	var ue *qcow2.UnsupportedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ce):
		return &DamageError{Path: path, Digest: digest, Reason: ce.Reason}
	case digest != "" && (errors.As(err, &ue) || errors.Is(err, qcow2.ErrFormat)):
		return &DamageError{Path: path, Digest: digest, Reason: err.Error()}
	case errors.As(err, &ue):
		return diag.WithHint(&UnsupportedError{path, ue.Error()}, "convert it first: qemu-img convert -O qcow2 %s NEW", path)
	case errors.Is(err, qcow2.ErrFormat):
		return &UnsupportedError{path, err.Error()}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// writeError names the operation and hints at a full disk.
func writeError(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return diag.WithHint(err, "the disk is full: make room, or move the image store to another disk")
	}
	return err
}
