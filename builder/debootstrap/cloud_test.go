package debootstrap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// script copies a program of the guest to where it can be run.
func script(t *testing.T, name string) string {
	t.Helper()
	data, err := guestFiles.ReadFile("guest/root/usr/lib/ingot/" + name)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return p
}

func TestDiskLetters(t *testing.T) {
	p := script(t, "cloud-disk")
	for path, want := range map[string]string{
		"/devices/pci0000:00/0000:00:05.0/virtio2/block/vda":                    "INGOT_DISK=a\n",
		"/devices/pci0000:00/0000:00:0a.0/virtio3/block/vdb/vdb1":               "INGOT_DISK=f\n",
		"/devices/pci0000:00/0000:00:1e.0/virtio3/block/vdb":                    "INGOT_DISK=z\n",
		"/devices/platform/pcie/pci0000:00/0000:00:06.0/0000:02:00.0/block/vdc": "INGOT_DISK=b\n",
		"/devices/pci0000:00/0000:00:04.0/virtio2/block/vda":                    "",
		"/devices/pci0000:00/0000:00:1f.0/virtio2/block/vda":                    "",
		"/devices/pci0000:00/0000:00:05.1/virtio2/block/vda":                    "",
		"/devices/virtual/block/loop0":                                          "",
	} {
		out, err := exec.CommandContext(t.Context(), "/bin/sh", p, path).CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v; want %q", path, out, err, want)
		}
	}
}

func TestUserDataRunsAsItsFirstLineSays(t *testing.T) {
	p := script(t, "user-data")
	for text, want := range map[string]string{
		"#!/bin/sh\necho \"$0\" | sed 's,.*/,,'\n":            "data",
		"#! /bin/sh\necho spaced\n":                           "spaced",
		"#!/bin/sh -e\nfalse\necho no\n":                      "",
		"#! /bin/sh -e\nfalse\necho no\n":                     "",
		"#!/usr/bin/env sh\necho by env\n":                    "by env",
		"#!/bin/sh\nif :; then\n\techo \"two  blanks\"\nfi\n": "two  blanks",
	} {
		file := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil { // no permission to execute
			t.Fatal(err)
		}
		out, _ := exec.CommandContext(t.Context(), "/bin/sh", p, file).Output()
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
