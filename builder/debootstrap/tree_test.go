package debootstrap

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

const epoch = 1_700_000_000

// entry is one header of a test archive and its content.
type entry struct {
	h    tar.Header
	data string
}

func archive(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.h.Size = int64(len(e.data))
		e.h.Format = tar.FormatPAX
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func dir(name string) entry {
	return entry{h: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(epoch-5, 0)}}
}

func regular(name, data string) entry {
	return entry{h: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(epoch+5, 0)}, data: data}
}

// system is a small root file system with one of everything.
func system() []entry {
	setuid := regular("./usr/bin/su do", "binary")
	setuid.h.Mode, setuid.h.Uid, setuid.h.Gid = 0o4755, 3, 70000
	setuid.h.PAXRecords = map[string]string{xattrPrefix + "security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	return []entry{
		dir("./"), dir("./usr/"), dir("./usr/bin/"), dir("./usr-x/"), setuid,
		{h: tar.Header{Typeflag: tar.TypeLink, Name: "./usr/bin/a", Linkname: "./usr/bin/su do"}},
		{h: tar.Header{Typeflag: tar.TypeSymlink, Name: "./bin", Linkname: "usr/bin", ModTime: time.Unix(epoch-9, 0)}},
		{h: tar.Header{Typeflag: tar.TypeFifo, Name: "./usr/pipe", Mode: 0o600}},
		{h: tar.Header{Typeflag: tar.TypeChar, Name: "./usr/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		dir("./etc/"), regular("./etc/machine-id", "0123456789abcdef0123456789abcdef\n"), regular("./etc/passwd-", "old"),
		regular(`./etc/a "quoted" näme`, strings.Repeat("x", 10000)),
		dir("./etc/ssh/"), regular("./etc/ssh/ssh_host_rsa_key", "secret"), regular("./etc/ssh/sshd_config", "config"),
		dir("./var/"), dir("./var/log/"), regular("./var/log/dpkg.log", "log"), dir("./var/log/apt/"),
		dir("./tmp/"), regular("./tmp/x", "y"),
		dir("./.ingot/"), dir("./.ingot/boot/"), regular("./.ingot/boot/core.img", "core"), regular("./.ingot/setup", "secret"),
	}
}

func TestReadTree(t *testing.T) {
	tr, err := readTree(archive(t, system()...), filepath.Join(t.TempDir(), "files"), epoch, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range tr.nodes {
		got = append(got, n.path)
		if n.mtime > epoch {
			t.Errorf("%s is of %d, after %d", n.path, n.mtime, epoch)
		}
		if n.path == "etc/machine-id" {
			if data, err := os.ReadFile(n.spool); err != nil || len(data) > 0 {
				t.Errorf("machine-id is %q, %v", data, err)
			}
		}
	}
	want := []string{
		"", "dev", "etc", "etc/ssh", "proc", "run", "sys", "tmp", "usr", "usr/bin", "usr-x", "var", "var/log", "var/log/apt",
		"bin", `etc/a "quoted" näme`, "etc/machine-id", "etc/ssh/sshd_config", "usr/null", "usr/pipe", "usr/bin/su do", "usr/bin/a",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("names\n%q, not\n%q", got, want)
	}
	if string(tr.boot["core.img"]) != "core" || len(tr.boot) != 1 {
		t.Errorf("boot files: %q", tr.boot)
	}
}

func TestReadTreeRefuses(t *testing.T) {
	for name, entries := range map[string][]entry{
		"nothing":               {},
		"a name that leads out": {dir("./"), regular("../x", "")},
		"a missing folder":      {dir("./"), regular("./a/b", "")},
		"a link to nothing":     {dir("./"), {h: tar.Header{Typeflag: tar.TypeLink, Name: "./a", Linkname: "./b"}}},
		"a name twice":          {dir("./"), regular("./a", ""), regular("./a", "")},
		"a line end in a name":  {dir("./"), regular("./a\nrm b", "")},
	} {
		if _, err := readTree(archive(t, entries...), filepath.Join(t.TempDir(), "files"), epoch, 1<<30); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := readTree(archive(t, system()...), filepath.Join(t.TempDir(), "files"), epoch, 9999); err == nil || !strings.Contains(diag.Hint(err), "disk_size") {
		t.Errorf("more than there is room for was taken: %v", err)
	}
	cut := archive(t, system()...).Bytes()
	if _, err := readTree(bytes.NewReader(cut[:len(cut)/2]), filepath.Join(t.TempDir(), "files"), epoch, 1<<30); err == nil {
		t.Error("half an archive was taken")
	}
}

func FuzzReadTree(f *testing.F) {
	f.Add(archive(f, system()...).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := readTree(bytes.NewReader(data), filepath.Join(t.TempDir(), "files"), epoch, 1<<20)
		if err != nil {
			return
		}
		for _, n := range tr.nodes {
			if strings.HasPrefix(n.path, "/") || strings.Contains("/"+n.path+"/", "/../") || strings.ContainsAny(n.path, "\n\x00") {
				t.Errorf("name %q", n.path)
			}
		}
	})
}

// TestExt4 writes a file system with e2fsprogs and reads it with debugfs.
func TestExt4(t *testing.T) {
	if testing.Short() {
		t.Skip("needs e2fsprogs")
	}
	var first []byte
	for range 2 {
		tr, err := readTree(archive(t, system()...), filepath.Join(t.TempDir(), "files"), epoch, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		disk := makeExt4(t, tr)
		data, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
			checkExt4(t, disk+"?offset=1048576")
		} else if !bytes.Equal(first, data) {
			t.Error("two runs differ")
		}
	}
}

func makeExt4(t *testing.T, tr *tree) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(65 << 20); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	id, err := (&image{}).identify(epoch)
	if err != nil {
		t.Fatal(err)
	}
	fs := ext4{
		disk: disk, offset: 1 << 20, size: 64 << 20, id: id, epoch: epoch, out: event.Discard, work: t.TempDir(),
		env: append(os.Environ(), fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", epoch), "MKE2FS_CONFIG=/dev/null", "LC_ALL=C", "TZ=UTC"),
	}
	if err := fs.make(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	return disk
}

func checkExt4(t *testing.T, device string) {
	for command, want := range map[string][]string{
		`stat "/usr/bin/su do"`:          {"Type: regular", "Mode:  04755", "User:     3   Group: 70000", "Links: 2", "mtime: 0x6553f100", "crtime: 0x6553f100", "security.capability (20)"},
		`stat /usr/bin/a`:                {"Links: 2"},
		`stat /bin`:                      {"Type: symlink", `Fast link dest: "usr/bin"`, "mtime: 0x6553f0f7"},
		`stat /usr/null`:                 {"Type: character special", "01:03"},
		`stat /usr/pipe`:                 {"Type: FIFO", "Mode:  0600"},
		`stat /etc`:                      {"Type: directory", "Mode:  0755", "mtime: 0x6553f0fb"},
		`stat /tmp`:                      {"Mode:  0755"},
		`stat /proc`:                     {"Mode:  0555"},
		`stat "/etc/a ""quoted"" näme"`:  {"Size: 10000"},
		`cat /etc/ssh/sshd_config`:       {"config"},
		`stat /etc/ssh/ssh_host_rsa_key`: {"File not found"},
		`stat /var/log/dpkg.log`:         {"File not found"},
		`stats`:                          {"Filesystem volume name:   root", "Filesystem state:         clean"},
	} {
		out, err := exec.CommandContext(t.Context(), "debugfs", "-R", command, device).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("%s: no %q in\n%s", command, w, out)
			}
		}
	}
}

// TestExt4Full says why, when there is no room.
func TestExt4Full(t *testing.T) {
	if testing.Short() {
		t.Skip("needs e2fsprogs")
	}
	tr, err := readTree(archive(t, dir("./"), regular("./big", strings.Repeat("x", 80<<20))), filepath.Join(t.TempDir(), "files"), epoch, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if _, err := writeScript(script, tr, t.TempDir(), epoch); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.CommandContext(t.Context(), "mke2fs", "-q", "-F", "-t", "ext4", disk, "32m").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fs := ext4{disk: disk, out: event.Discard, work: t.TempDir(), epoch: epoch, env: os.Environ()}
	if err := fs.populate(context.WithoutCancel(t.Context()), tr); err == nil || !strings.Contains(err.Error(), "allocate block") {
		t.Errorf("80 MiB went into 32: %v", err)
	}
}

func TestEmbedBIOS(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	table := bytes.Repeat([]byte{7}, sector)
	if err := os.WriteFile(disk, append(table, make([]byte, 4<<20)...), 0o644); err != nil {
		t.Fatal(err)
	}
	boot := make([]byte, sector)
	boot[510], boot[511] = 0x55, 0xaa
	core := bytes.Repeat([]byte{9}, 3*sector)
	l := layout{biosStart: mib, biosLen: mib}
	if err := embedBIOS(disk, l, boot, core); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if at := binary.LittleEndian.Uint64(data[grubKernelSector:]); at != 2048 {
		t.Errorf("the first stage loads sector %d", at)
	}
	if at := binary.LittleEndian.Uint64(data[mib+grubBlockList:]); at != 2049 {
		t.Errorf("the second stage goes on at sector %d", at)
	}
	if data[grubBootCode] != 7 || data[grubBootCode-1] != 0 {
		t.Error("the partition table was touched, or the code is not whole")
	}
	if err := embedBIOS(disk, l, boot[:100], core); err == nil {
		t.Error("a piece of a boot sector was taken")
	}
	if err := embedBIOS(disk, l, boot, make([]byte, 2*mib)); err == nil {
		t.Error("a core image larger than its partition was taken")
	}
}
