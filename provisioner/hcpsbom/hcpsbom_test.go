package hcpsbom

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/provisioner"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

const (
	cyclone = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}`
	spdxDoc = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"x","documentNamespace":"https://x","packages":[]}`
)

func mustOpen(t *testing.T, c Config) provisioner.Provisioner {
	t.Helper()
	p, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpenReportsEveryFault(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		c            Config
		want, warned []string
	}{
		"nothing": {Config{}, []string{"source"}, nil},
		"both":    {Config{Source: "x", AutoGenerate: true}, []string{"source"}, nil},
		"good":    {Config{Source: "x", SbomName: "abc-1", Destination: dir}, nil, nil},
		"all": {Config{
			Source: "x", SbomName: "a_b", ScannerChecksum: "x", ElevatedPassword: secret.New("p"), ScannerArgs: []string{"-o", "table"}, ExecuteCommand: "{{",
			Destination: filepath.Join(dir, "none", "x"),
		}, []string{"destination", "elevated_password", "execute_command", "sbom_name", "scanner_args", "scanner_checksum"}, nil},
		"deprecated": {Config{AutoGenerate: true, ScannerURL: "http://x", ScannerArgs: []string{"-q"}}, nil, []string{"scanner_args", "scanner_url"}},
		"no format":  {Config{AutoGenerate: true, ScannerArgs: []string{"-o"}}, []string{"scanner_args"}, nil},
	} {
		_, err := open(tc.c)
		var got, warned []string
		for _, e := range diag.Flatten(err) {
			var f *diag.FieldError
			if !errors.As(e, &f) {
				t.Fatalf("%s: %v is not about an option", name, e)
			}
			if f.Warn {
				warned = append(warned, f.Paths[0])
			} else {
				got = append(got, f.Paths[0])
			}
		}
		slices.Sort(got)
		slices.Sort(warned)
		if !slices.Equal(got, tc.want) || !slices.Equal(warned, tc.warned) {
			t.Errorf("%s: faults in %q, want %q; warnings in %q, want %q", name, got, tc.want, warned, tc.warned)
		}
	}
}

func TestCheck(t *testing.T) {
	for doc, want := range map[string]format{
		cyclone: cycloneDX, spdxDoc: spdx, `{"bomFormat":"CycloneDX","specVersion":"1.4"}`: cycloneDX,
		`{"bomFormat":"CycloneDX","specVersion":"2"}`: "", `{"bomFormat":"CycloneDX","specVersion":"1.5","components":{}}`: "",
		`{"spdxVersion":"SPDX-3.0"}`: "", `{"spdxVersion":"SPDX-2.3","SPDXID":"x"}`: "", `{}`: "", `[]`: "", `<xml/>`: "", "": "",
	} {
		got, err := check([]byte(doc))
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %q, %v", doc, got, err)
		}
	}
}

func TestDocuments(t *testing.T) {
	l, err := parseListing("os\tdebian\t12\r\npkg\tdeb\tlibc++\t1:2.3+b1\tamd64\t\npkg\tdeb\tlibc++\t1:2.3+b1\tamd64\t\npkg\trpm\tbash\t2:5.1-1.fc40\tx86_64\tGPLv3+\npkg\tgeneric\tA B\t1\t\t\n")
	if err != nil || len(l.packages) != 3 {
		t.Fatal(l, err)
	}
	var urls []string
	for _, p := range l.packages {
		urls = append(urls, l.purl(p))
	}
	want := []string{
		"pkg:deb/debian/libc++@1:2.3%2Bb1?arch=amd64&distro=debian-12", "pkg:rpm/debian/bash@5.1-1.fc40?arch=x86_64&distro=debian-12&epoch=2", "pkg:generic/A%20B@1",
	}
	if !slices.Equal(urls, want) {
		t.Errorf("%q\nwant %q", urls, want)
	}
	for _, f := range []format{cycloneDX, spdx} {
		doc, err := l.document(f, "web", time.Unix(1700000000, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := check(doc); err != nil || got != f {
			t.Errorf("%s: made %q, %v", f, got, err)
		}
		for _, u := range urls[:2] {
			j, _ := json.Marshal(u)
			if !strings.Contains(string(doc), string(j)) {
				t.Errorf("%s has no %s", f, j)
			}
		}
		if !strings.Contains(string(doc), "2023-11-14T22:13:20Z") || !strings.Contains(string(doc), "GPLv3+") {
			t.Errorf("%s", doc)
		}
	}
	for _, bad := range []string{"", "pkg\tdeb\tx\t1\t\t\n", "os\tx\n", "hello", "os\tx\ty\npkg\tdeb\t\t\t\t\n"} {
		if _, err := parseListing(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add("os\tdebian\t12\npkg\tdeb\tx\t1\tamd64\t\n")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseListing(s)
		if err != nil {
			return
		}
		for _, kind := range []format{cycloneDX, spdx} {
			doc, err := l.document(kind, "n", time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := check(doc); err != nil || got != kind {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}

func TestWindows(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	conn, err := winrm.Dial(provisionertest.Context(t), s.Config(), winrm.Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	g := communicator.Guest{Communicator: conn, Data: s.Data()}
	s.WriteFile(t, "c:/sbom.json", "\ufeff"+cyclone)
	s.WriteFile(t, "c:/bad.json", "{}")
	s.WriteFile(t, "c:/list", "os\tWindows Server 2022\t20348.1\r\npkg\tgeneric\t7-Zip\t24.09\tx86_64\t\r\n")
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		c    Config
		file string // "": a warning
		want string
	}{
		"source to a folder": {Config{Source: "c:/sbom.json", Destination: dir, SbomName: "mine"}, "mine.sbom.cyclonedx.json", "CycloneDX"},
		"source to a file":   {Config{Source: "c:/sbom.json", Destination: filepath.Join(dir, "x.json")}, "x.json", "CycloneDX"},
		"missing":            {Config{Source: "c:/none", Destination: dir}, "", "c:/none"},
		"no SBOM":            {Config{Source: "c:/bad.json", Destination: dir}, "", "neither"},
		"listing": {
			Config{AutoGenerate: true, Destination: dir, SbomName: "listed", ExecuteCommand: `type c:\list > {{.Output}}`, ScannerArgs: []string{"-o=spdx-json"}},
			"listed.sbom.spdx.json", "7-Zip",
		},
		"scanner": {Config{AutoGenerate: true, Destination: dir, SbomName: "scanned", ExecuteCommand: `type c:\sbom.json > {{.Output}}`}, "scanned.sbom.cyclonedx.json", "1.6"},
		"elevated": {
			Config{AutoGenerate: true, Destination: dir, SbomName: "elevated", ExecuteCommand: `type c:\list > {{.Output}}`, ElevatedUser: winrmtest.User, ElevatedPassword: secret.New("{{.Password}}")},
			"elevated.sbom.cyclonedx.json", "7-Zip",
		},
		"failing": {Config{AutoGenerate: true, Destination: dir, ExecuteCommand: "exit 4"}, "", "exit status 4"},
	} {
		var out provisionertest.Events
		if err := mustOpen(t, tc.c).Apply(provisionertest.Context(t), g, &out); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tc.file == "" {
			if !slices.ContainsFunc(out.All(), func(e event.Event) bool {
				w, ok := e.(event.Warn)
				return ok && strings.Contains(w.Text, tc.want)
			}) {
				t.Errorf("%s: no warning with %q in %v", name, tc.want, out.All())
			}
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, tc.file))
		if err != nil || !strings.Contains(string(b), tc.want) {
			t.Errorf("%s: %q, %v (%v)", name, b, err, out.All())
		}
	}
	if left := s.Files("c:/windows/temp"); len(left) != 0 {
		t.Errorf("left on the guest: %q", left)
	}
}

// TestThisMachine lists the packages of the machine that runs the test.
func TestThisMachine(t *testing.T) {
	s := provisionertest.Start(t)
	g := s.Connect()
	dir := t.TempDir()
	for _, args := range [][]string{nil, {"-o", "spdx-json"}} {
		var out provisionertest.Events
		if err := mustOpen(t, Config{AutoGenerate: true, Destination: dir, ScannerArgs: args}).Apply(provisionertest.Context(t), g, &out); err != nil {
			t.Fatal(err)
		}
		file := "web.sbom.cyclonedx.json"
		if args != nil {
			file = "web.sbom.spdx.json"
		}
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatalf("%v: %v", err, out.All())
		}
		if _, err := os.Stat("/var/lib/dpkg/status"); err == nil && !strings.Contains(string(b), "pkg:deb/debian/openssh-server@") {
			t.Errorf("%s names no openssh-server", file)
		}
	}
	if _, err := os.Stat(unixFile); err == nil {
		t.Error("the runner is still there")
	}
}
