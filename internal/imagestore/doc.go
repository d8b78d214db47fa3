// Package imagestore keeps disk images on the local machine as layers named by
// their content, each holding only what differs from the layer below it.
//
// # Layers
//
// A layer is one file, layers/<digest>.qcow2, that never changes: a qcow2 image
// with clusters of 64 KiB whose backing file is its parent's file, by relative
// name. QEMU uses it as it is. The digest is the SHA-256 of what the layer
// says:
//
//	"ingot layer 1\n" | parent's digest, 64 hex digits or 64 "-" | size, 8 bytes big endian
//	then for each cluster kept, in order: index, 8 bytes | 0, or 1 and the SHA-256 of its 64 KiB
//
// A cluster is kept when its bytes differ from what the parent shows there;
// zero clusters have no data. Equal content over an equal parent is therefore
// the same layer whoever made it, and as the file's layout follows from the
// same list (package qcow2), every byte of the file is covered by its name:
// there is no second file to lose, and [Store.Verify] needs nothing else.
//
// A copy between regions is a second reference to the digest. It adds no
// bytes; the caller verifies the digest.
//
// No chain is deeper than [MaxDepth]: a capture that would be deeper is
// written over an ancestor half way down, with everything between merged in.
//
// # Crashes and neighbours
//
// Files are written under a temporary name in tmp/, synced and renamed; the
// writer holds an flock(2) on them, so a file there that nobody holds is
// garbage ([Store.Sweep]). Any number of processes may use a store. A layer is
// removed only by [Store.GC], which waits until nobody is inside an operation
// or a [Store.Hold], and leaves layers that a process reads or QEMU has open.
package imagestore
