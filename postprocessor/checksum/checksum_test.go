package checksum

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

var build = postprocessor.Build{Name: "web", BuilderType: "file", Data: map[string]string{"ID": "File"}}

func process(t *testing.T, c Config, in artifact.Set) (artifact.Set, error) {
	t.Helper()
	p, err := open(c, build)
	if err != nil {
		t.Fatal(err)
	}
	return p.Process(t.Context(), in, event.Discard)
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s is %q (%v), want %q", name, got, err, want)
	}
}

// The digests are those of RFC 1321, of RFC 3174 and of FIPS 180-2 for "abc",
// and of nothing.
const (
	md5abc    = "900150983cd24fb0d6963f7d28e17f72"
	md5none   = "d41d8cd98f00b204e9800998ecf8427e"
	sha1abc   = "a9993e364706816aba3e25717850c26c9cd0d89d"
	sha224abc = "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"
	sha256abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	sha384abc = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
	sha512abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)

func TestChecksum(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, "d/abc", "abc")
	put(t, "empty", "")
	set, err := process(t, Config{}, artifact.Set{ID: "File", Files: []string{"d/abc", "empty"}})
	if err != nil {
		t.Fatal(err)
	}
	const name = "packer_web_file_md5.checksum"
	want := md5abc + "\tabc\n" + md5none + "\tempty\n"
	is(t, name, want)
	if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("mode %v %v", fi.Mode(), err)
	}
	if set.ID != "" || set.BuilderID != BuilderID || !slices.Equal(set.Files, []string{"d/abc", "empty", name}) {
		t.Errorf("%+v", set)
	}
	// A second run adds its lines, as Packer does.
	if _, err := process(t, Config{}, artifact.Set{Files: []string{"empty"}}); err != nil {
		t.Fatal(err)
	}
	is(t, name, want+md5none+"\tempty\n")
}

func TestTypesAndOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "abc", "abc")
	all := map[string]string{"md5": md5abc, "sha1": sha1abc, "sha224": sha224abc, "sha256": sha256abc, "sha384": sha384abc, "sha512": sha512abc}
	types := strings.Split(known, ", ")
	set, err := process(t, Config{ChecksumTypes: types, Output: "out/{{.ID}}/{{.BuildName}}.{{.ChecksumType}}"}, artifact.Set{Files: []string{"abc"}})
	if err != nil || len(set.Files) != 7 {
		t.Fatalf("%+v %v", set, err)
	}
	for typ, sum := range all {
		is(t, "out/File/web."+typ, sum+"\tabc\n")
	}
	set, err = process(t, Config{ChecksumTypes: []string{"sha1", "md5"}, Output: "one"}, artifact.Set{Files: []string{"abc"}})
	if err != nil || !slices.Equal(set.Files, []string{"abc", "one"}) {
		t.Errorf("%+v %v", set, err)
	}
	is(t, "one", sha1abc+"\tabc\n"+md5abc+"\tabc\n")
}

func TestNothingToSum(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	set, err := process(t, Config{}, artifact.Set{ID: "ami-1"})
	left, rerr := os.ReadDir(dir)
	if err != nil || rerr != nil || len(set.Files) > 0 || len(left) > 0 {
		t.Errorf("%+v %v, files %v %v", set, err, left, rerr)
	}
	if _, err := process(t, Config{}, artifact.Set{Files: []string{"gone"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left of what failed: %v", left)
	}
	put(t, "abc", "abc")
	p, err := open(Config{}, build)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := p.Process(ctx, artifact.Set{Files: []string{"abc"}}, event.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
}

func TestParallel(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "abc", "abc")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := process(t, Config{Output: "x"}, artifact.Set{Files: []string{"abc"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	is(t, "x", strings.Repeat(md5abc+"\tabc\n", 20))
}

func TestOpenReportsEveryFault(t *testing.T) {
	_, err := open(Config{ChecksumTypes: []string{"md5", "crc", "SHA1"}, Output: "{{"}, build)
	if n := len(diag.Flatten(err)); n != 3 {
		t.Errorf("%d faults: %v", n, err)
	}
	if _, err := process(t, Config{Output: "{{.NoSuch}}"}, artifact.Set{Files: []string{"x"}}); err == nil || diag.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}
