package media

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func need(t *testing.T, program string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs " + program)
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("this test needs the program %s: %v", program, err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// tree makes files and returns their folder.
func tree(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"user-data": "#cloud-config\n", "meta-data": "id: x\n", "drivers/net/a long driver name.inf": "driver",
		"drivers/big.bin": strings.Repeat("0123456789abcdef", 20000),
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("user-data", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFloppyIsReadByMtools(t *testing.T) {
	need(t, "mcopy")
	dir := tree(t)
	img := filepath.Join(t.TempDir(), "floppy.img")
	err := Floppy(img, "packer", Source{
		Files: []string{filepath.Join(dir, "*-data")}, Dirs: []string{filepath.Join(dir, "drivers")},
		Content: map[string]string{"/Autounattend.xml": "<xml/>", "sub/note.txt": "hello"}, Flat: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(img); err != nil || st.Size() != 1474560 {
		t.Errorf("size %v %v", st.Size(), err)
	}
	for name, want := range map[string]string{
		"user-data": "#cloud-config\n", "Autounattend.xml": "<xml/>", "sub/note.txt": "hello",
		"drivers/net/a long driver name.inf": "driver", "drivers/big.bin": strings.Repeat("0123456789abcdef", 20000),
	} {
		out := filepath.Join(t.TempDir(), "out")
		run(t, "mcopy", "-i", img, "::"+name, out)
		if got, _ := os.ReadFile(out); string(got) != want {
			t.Errorf("%s holds %d bytes, want %d", name, len(got), len(want))
		}
	}
	if out := run(t, "mlabel", "-i", img, "-s", "::"); !strings.Contains(out, "PACKER") {
		t.Errorf("label: %s", out)
	}
	if err := Floppy(img, "x", Source{Content: map[string]string{"a": ""}}); err == nil {
		t.Error("an existing file must not be replaced")
	}
}

func TestFloppyTooLarge(t *testing.T) {
	img := filepath.Join(t.TempDir(), "floppy.img")
	err := Floppy(img, "x", Source{Content: map[string]string{"a": strings.Repeat("x", 2<<20)}})
	if err == nil {
		t.Fatal("want an error")
	}
	if _, err := os.Stat(img); err == nil {
		t.Error("half an image was left")
	}
}

func TestISOIsReadByXorriso(t *testing.T) {
	need(t, "xorriso")
	need(t, "blkid")
	dir := tree(t)
	img := filepath.Join(t.TempDir(), "cd.iso")
	err := ISO(img, "cidata", Source{
		Files:   []string{filepath.Join(dir, "*-data"), filepath.Join(dir, "drivers"), filepath.Join(dir, "link")},
		Content: map[string]string{"network-config": "version: 2\n", "a/b/c/deep.txt": "deep"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "blkid", "-p", "-o", "value", "-s", "LABEL", img); strings.TrimSpace(out) != "cidata" {
		t.Errorf("label %q", out)
	}
	out := t.TempDir()
	run(t, "xorriso", "-osirrox", "on", "-indev", img, "-extract", "/", filepath.Join(out, "x"))
	for name, want := range map[string]string{
		"user-data": "#cloud-config\n", "meta-data": "id: x\n", "link": "#cloud-config\n", "network-config": "version: 2\n",
		"a/b/c/deep.txt": "deep", "drivers/net/a long driver name.inf": "driver",
		"drivers/big.bin": strings.Repeat("0123456789abcdef", 20000),
	} {
		got, err := os.ReadFile(filepath.Join(out, "x", name))
		if err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestSourceFaults(t *testing.T) {
	dir := t.TempDir()
	err := Source{Files: []string{dir + "/no-file", dir + "/*.none"}, Content: map[string]string{"": "x"}}.Check()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three faults: %v", err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(".", loop); err != nil {
		t.Fatal(err)
	}
	if err := (Source{Dirs: []string{dir}}).Check(); err == nil {
		t.Error("a loop of links must be a fault")
	}
}
