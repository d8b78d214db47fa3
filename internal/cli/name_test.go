package cli

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNames(t *testing.T) {
	for called, want := range map[string]string{
		"": "ingot", "ingot": "ingot", "ingot-0.4": "ingot", "packerish": "ingot",
		"packer": "packer", "packer.exe": "packer", "packer-io": "packer-io", "packer.io": "packer.io", "packer_1.16.0": "packer_1.16.0",
	} {
		a := &app{Streams: Streams{Name: called}}
		if got := a.name(); got != want {
			t.Errorf("called %q: %q, want %q", called, got, want)
		}
	}
}

func TestRenamed(t *testing.T) {
	a := &app{Streams: Streams{Name: "packer"}, commands: commands()}
	for text, want := range map[string]string{
		"ingot build it":                    "packer build it",
		`see "ingot local env"`:             `see "packer local env"`,
		"end it: ingot local down":          "end it: packer local down",
		"a.ingot build":                     "a.ingot build",
		"/usr/bin/ingot build":              "/usr/bin/ingot build",
		"an ingot of gold, ingot buildings": "an ingot of gold, ingot buildings",
		"x.ingot.hcl":                       "x.ingot.hcl",
	} {
		if got := a.renamed(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	a.Name = "ingot"
	if got := a.renamed("ingot build"); got != "ingot build" {
		t.Error(got)
	}
}

func TestReplay(t *testing.T) {
	r := &replay{in: iotest.OneByteReader(strings.NewReader("once"))}
	for range 2 {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != "once" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	broken := &replay{in: iotest.ErrReader(io.ErrUnexpectedEOF)}
	if _, err := broken.Read(make([]byte, 1)); err == nil {
		t.Error("an error is not told")
	}
	if _, err := io.ReadAll(broken); err == nil {
		t.Error("an error is told only once")
	}
}
