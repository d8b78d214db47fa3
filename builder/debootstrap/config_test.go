package debootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
)

var info = builder.Info{Name: "debian", Build: "debootstrap.debian", RunID: "run"}

func TestDefaults(t *testing.T) {
	c := Config{Architecture: "x86_64"}
	size, err := c.prepare(info)
	if err != nil {
		t.Fatal(err)
	}
	if size != 4<<30 || c.Architecture != "amd64" || c.KernelPackage != "linux-image-cloud-amd64" || c.BootMode != "both" ||
		c.OutputDir != "output-debian" || c.fileName() != "debian-bookworm-amd64.qcow2" {
		t.Errorf("defaults: %d %+v", size, c)
	}
	c = Config{Architecture: "arm64"}
	if _, err := c.prepare(info); err != nil || c.BootMode != "uefi" {
		t.Errorf("arm64: boot mode %q, %v", c.BootMode, err)
	}
}

func TestFaultsAreReportedTogether(t *testing.T) {
	c := Config{
		Suite: "Book worm", Mirrors: []string{"ftp://x", "deb only"}, Architecture: "i386", Variant: "tiny", Mode: "sudo",
		Packages: []string{"ok", "not ok"}, DiskSize: "many", BootMode: "floppy", Format: "vdi", Compress: true,
		Hostname: "-x", Timezone: "../etc", ImageName: "a/b", KernelCmdline: "a'b", Locale: "C UTF", Components: []string{"Main"},
	}
	_, err := c.prepare(info)
	var paths []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Fatalf("%v is not about an option", e)
		}
		paths = append(paths, f.Paths[0])
	}
	want := []string{
		"suite", "mirrors[0]", "mirrors[1]", "components[0]", "packages[1]", "architecture", "variant", "mode", "boot_mode",
		"format", "compress", "hostname", "locale", "timezone", "image_name", "kernel_cmdline", "disk_size",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("faults at\n%q, not\n%q", paths, want)
	}
	c = Config{Architecture: "arm64", BootMode: "both", DiskSize: "1000"}
	if _, err := c.prepare(info); err == nil || !strings.Contains(err.Error(), "UEFI only") || !strings.Contains(err.Error(), "1G at least") {
		t.Errorf("arm64 with a BIOS on a small disk: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"4G": 4 << 30, "4g": 4 << 30, "4GiB": 4 << 30, "4 GB": 4 << 30, "5000": 5000 << 20, "1536M": 1536 << 20, "2T": 2 << 40, "2097153k": 2 << 30,
		"": -1, "G": -1, "-1G": -1, "4X": -1, "1.5G": -1, "17T": -1, "99999999999999999999": -1,
	} {
		got, err := parseSize(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestSources(t *testing.T) {
	etc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(etc, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("sources.list", "# deb http://no/ bookworm main\ndeb-src http://no/ bookworm main\ndeb cdrom:[x]/ bookworm main\n"+
		"deb [arch=amd64 signed-by=/k] http://one/debian bookworm main contrib # why\n")
	write("sources.list.d/a.sources", "Types: deb deb-src\nURIs: https://sec/debian-security\nSuites: bookworm-security\nComponents: main\n\n"+
		"Enabled: no\nTypes: deb\nURIs: http://off/\nSuites: bookworm-updates\n\n"+
		"# a comment\nTypes: deb\nURIs:\n http://two/debian\n http://three/debian\nSuites: bookworm bookworm-updates\n")
	write("sources.list.d/b.list.save", "deb http://saved/ bookworm main\n")
	c := Config{Suite: "bookworm", Components: []string{"main", "non-free-firmware"}}
	want := []string{
		"deb http://one/debian bookworm main non-free-firmware",
		"deb https://sec/debian-security bookworm-security main non-free-firmware",
		"deb http://two/debian bookworm-updates main non-free-firmware",
	}
	if got := c.sourceLines(etc); !reflect.DeepEqual(got, want) {
		t.Errorf("sources:\n%q, not\n%q", got, want)
	}
	c.Suite = "trixie"
	if got := c.sourceLines(etc); got != nil {
		t.Errorf("a suite the host does not read: %q", got)
	}
	c.Mirrors = []string{"http://m/debian", "deb http://n/debian trixie-security main"}
	want = []string{"deb http://m/debian trixie main non-free-firmware", "deb http://n/debian trixie-security main"}
	if got := c.sourceLines(etc); !reflect.DeepEqual(got, want) {
		t.Errorf("mirrors: %q", got)
	}
}

func TestAptOptions(t *testing.T) {
	got := aptOptions("Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://user:pw@proxy:3128\";\n" +
		"Acquire::https::CAInfo \"/ca.pem\";\nAcquire::Check-Valid-Until \"false\";\nAPT::Install-Recommends \"false\";\nAcquire::Languages:: \"de\";\n")
	want := "Acquire::http::Proxy \"http://user:pw@proxy:3128\";\nAcquire::https::CAInfo \"/ca.pem\";\nAcquire::Check-Valid-Until \"false\";\n"
	if got != want {
		t.Errorf("kept\n%s, not\n%s", got, want)
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb [a=b] http://x/ bookworm main\n")
	f.Add("Types: deb\nURIs: http://x/\nSuites: a b\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseOneLine(text), parseDeb822(text)...) {
			if !isHTTP(s.uri) || s.suite == "" || strings.ContainsAny(s.uri+s.suite, " \t\n") {
				t.Errorf("source %+v from %q", s, text)
			}
		}
	})
}

func TestIdentityFollowsTheInputs(t *testing.T) {
	of := func(c Config, epoch int64) identity {
		t.Helper()
		id, err := (&image{cfg: c}).identify(epoch)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	one := of(Config{Suite: "bookworm", OutputDir: "a", ImageName: "x", Format: "raw"}, 1)
	if two := of(Config{Suite: "bookworm", OutputDir: "b", ImageName: "y", Format: "qcow2"}, 1); one != two {
		t.Error("the identity depends on where the image is put")
	}
	if two := of(Config{Suite: "trixie"}, 1); one.fs == two.fs {
		t.Error("the identity does not depend on the suite")
	}
	if two := of(Config{Suite: "bookworm"}, 2); one.fs == two.fs {
		t.Error("the identity does not depend on the time")
	}
	if one.fs == one.root || one.fs == one.hash {
		t.Error("two parts have one identity")
	}
}
