// Package artifact holds the values a build produces and what may be done
// with them.
//
// A system image and a data-disk snapshot are two types because they are two
// things: a [SystemImage] boots and can be copied as an image, tested and
// released; a [DataSnapshot] restores the content of a disk and cannot boot.
package artifact

import (
	"maps"
	"slices"
	"time"
)

// A Ref names one thing of one provider for ever.
type Ref struct {
	Provider string `json:"provider"`         // "qemu", "amazon", …
	Region   string `json:"region,omitempty"` // "" where the provider has none
	ID       string `json:"id"`               // the provider's own id, or a path for local files
}

// A Base is the image a build starts from, resolved before anything is made.
type Base struct {
	Ref
	Name           string   `json:"name,omitempty"`
	Arch           Arch     `json:"arch,omitempty"`
	Virtualization Virt     `json:"virtualization,omitempty"`
	Boot           BootMode `json:"boot,omitempty"`
	Digest         string   `json:"digest,omitempty"` // "sha256:<hex>" of the content, "" when not known
}

// A Disk is one disk of an image.
type Disk struct {
	Device string `json:"device,omitempty"` // the guest's or the provider's device name
	Path   string `json:"path,omitempty"`   // local file, slash-separated
	Format string `json:"format,omitempty"` // "qcow2", "raw", …
	Size   int64  `json:"size,omitempty"`   // virtual size in bytes
	Digest string `json:"digest,omitempty"` // "sha256:<hex>" of the file
}

// A SystemImage boots.
type SystemImage struct {
	Ref
	Name           string            `json:"name,omitempty"`
	Arch           Arch              `json:"arch"`
	Virtualization Virt              `json:"virtualization"`
	Boot           BootMode          `json:"boot"`
	Digest         string            `json:"digest,omitempty"`
	Disks          []Disk            `json:"disks,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Created        time.Time         `json:"created"`
}

// Consistency says what a snapshot's content can be relied on for.
type Consistency string

// The consistencies of a [DataSnapshot].
const (
	CrashConsistent Consistency = "crash"    // as after pulling the plug
	FileConsistent  Consistency = "file"     // file systems were frozen or unmounted
	CleanShutdown   Consistency = "shutdown" // the machine was shut down first
)

// A DataSnapshot restores a data disk. It does not boot.
type DataSnapshot struct {
	Ref
	Device      string      `json:"device,omitempty"`
	SizeGiB     int64       `json:"size_gib,omitempty"`
	Parent      string      `json:"parent,omitempty"` // id of the snapshot it is a difference to
	Consistency Consistency `json:"consistency"`
}

// A Set is what one step of a build hands on: images, snapshots, plain files.
// It is a value: whoever changes one works on a [Set.Clone].
type Set struct {
	BuilderID string            `json:"builder_id"`           // Packer's id of the maker, e.g. "transcend.qemu"
	ID        string            `json:"id"`                   // Packer's artifact id, e.g. "VM"; may be empty
	Text      string            `json:"text"`                 // what a person is told it is
	Images    []SystemImage     `json:"images,omitempty"`     //
	Snapshots []DataSnapshot    `json:"snapshots,omitempty"`  //
	Files     []string          `json:"files,omitempty"`      // paths as given by the user's options
	Data      map[string]string `json:"build_data,omitempty"` // what the builder generated; never a secret
	Empty     bool              `json:"empty,omitempty"`      // there is no artifact at all: ends a chain
	Dir       string            `json:"directory,omitempty"`  // folder that exists only for Files; removed with them when empty
}

// Clone returns a deep copy.
func (s Set) Clone() Set {
	s.Images = slices.Clone(s.Images)
	for i := range s.Images {
		s.Images[i].Disks = slices.Clone(s.Images[i].Disks)
		s.Images[i].Tags = maps.Clone(s.Images[i].Tags)
	}
	s.Snapshots = slices.Clone(s.Snapshots)
	s.Files = slices.Clone(s.Files)
	s.Data = maps.Clone(s.Data)
	return s
}
