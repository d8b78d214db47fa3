//go:build !linux

package imagestore

import "os"

// recordLocked is for Linux; elsewhere QEMU does not lock images this way.
func recordLocked(*os.File) (bool, error) { return false, nil }
