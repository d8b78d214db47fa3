package amazonimport

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/ebsdirect"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

// lines keeps what a person is told.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Emit(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case event.Say:
		l.all = append(l.all, e.Text)
	case event.Warn:
		l.all = append(l.all, "warning: "+e.Text)
	}
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(s string) bool { return strings.Contains(s, text) })
}

// disk writes a raw disk of three blocks, the second empty, and returns it.
func disk(t *testing.T, path string) []byte {
	t.Helper()
	data := make([]byte, 3*block-100)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(data[:1000])
	_, _ = src.Read(data[2*block:])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t *testing.T, s *stand, o Options, b postprocessor.Build) postprocessor.PostProcessor {
	t.Helper()
	p, err := Driver("1.2.3", s.at).Open(&Config{Options: o}, b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var build = postprocessor.Build{Name: "web", BuilderType: "qemu", RunID: "run1", Data: map[string]string{"Kernel": "6.1"}}

// qemuImage is what the qemu builder hands on.
func qemuImage(path, format string) artifact.Set {
	return artifact.Set{
		Files: []string{path},
		Images: []artifact.SystemImage{{
			Arch: artifact.X8664, Virtualization: artifact.HVM, Boot: artifact.UEFI,
			Disks: []artifact.Disk{{Path: filepath.ToSlash(path), Format: format}},
		}},
		Data: map[string]string{"k": "v"},
	}
}

func TestDirect(t *testing.T) {
	s, out := newStand(t), &lines{}
	path := filepath.Join(t.TempDir(), "web")
	want := disk(t, path)
	p := open(t, s, Options{
		S3Bucket: "b", Name: "web {{build `Kernel`}}", Description: "by {{.BuilderType}}", IMDSSupport: "v2.0",
		Tags: map[string]string{"Team": "a", "Architecture": "mine"}, Users: []string{"111122223333"}, Groups: []string{"all"},
	}, build)
	set, err := p.Process(t.Context(), qemuImage(path, "raw"), out)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Images) != 1 || set.BuilderID != BuilderID || set.ID != "eu-west-1:"+set.Images[0].ID || set.Data["k"] != "v" {
		t.Fatalf("artifact %+v", set)
	}
	i := set.Images[0]
	if i.Name != "web 6.1" || i.Boot != artifact.UEFI || i.Provider != "amazon" || i.Region != "eu-west-1" || set.Text != "AMIs were created:\neu-west-1: "+i.ID+"\n" {
		t.Errorf("image %+v", i)
	}
	img := s.images[i.ID]
	for k, v := range map[string]string{
		"Architecture": "x86_64", "BootMode": "uefi", "VirtualizationType": "hvm", "EnaSupport": "true", "ImdsSupport": "v2.0",
		"RootDeviceName": "/dev/sda1", "Description": "by qemu", "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
	} {
		if got := img.form.Get(k); got != v {
			t.Errorf("%s = %q, want %q", k, got, v)
		}
	}
	sn := s.snaps[img.snap]
	if !bytes.Equal(s.content(img.snap, len(want)), want) || len(sn.data) != 2 {
		t.Errorf("%d blocks", len(sn.data))
	}
	for _, tags := range []map[string]string{img.tags, sn.tags} {
		if tags["Team"] != "a" || tags["Architecture"] != "mine" || tags["ingot:run"] != "run1" || tags["BootMode"] != "uefi" {
			t.Errorf("tags %v", tags)
		}
	}
	if !slices.Equal(img.perms, []string{"111122223333", "all"}) {
		t.Errorf("shared with %v", img.perms)
	}
	if !out.has("bucket b is not needed") || len(s.objects) != 0 {
		t.Errorf("told %q", out.all)
	}
	noRecords(t)
	// The same job again finds its image; another one with that name does not.
	again, err := p.Process(t.Context(), qemuImage(path, "raw"), out)
	if err != nil || again.ID != set.ID || len(s.images) != 1 {
		t.Errorf("again: %v %v", again.ID, err)
	}
	other := build
	other.RunID = "run2"
	_, err = open(t, s, Options{Name: "web 6.1"}, other).Process(t.Context(), qemuImage(path, "raw"), out)
	if err == nil || !strings.Contains(err.Error(), "already") || diag.Hint(err) == "" || len(s.snaps) != 1 {
		t.Errorf("a name that is taken: %v", err)
	}
}

func noRecords(t *testing.T) {
	t.Helper()
	if left, _ := os.ReadDir(filepath.Join(os.Getenv("XDG_STATE_HOME"), "ingot", "uploads")); len(left) != 0 {
		t.Errorf("records are left: %v", left)
	}
}

func TestDirectFormats(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("needs qemu-img")
	}
	dir := t.TempDir()
	raw := filepath.Join(dir, "d.raw")
	// qemu-img counts in sectors of 512 bytes.
	want := append(disk(t, raw), make([]byte, 100)...)
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ format, file string }{{"qcow2", "q"}, {"vmdk", "d.vmdk"}, {"vpc", "d.vhd"}} {
		t.Run(f.format, func(t *testing.T) {
			s := newStand(t)
			path := filepath.Join(dir, f.file)
			cmd := exec.Command("qemu-img", "convert", "-f", "raw", "-O", f.format, raw, path)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			set, err := open(t, s, Options{}, build).Process(t.Context(), artifact.Set{Files: []string{path}}, event.Discard)
			if err != nil {
				t.Fatal(err)
			}
			img := s.images[set.Images[0].ID]
			if !bytes.Equal(s.content(img.snap, len(want)), want) {
				t.Error("another content")
			}
			if !strings.HasPrefix(img.name, "packer-import-web-") {
				t.Errorf("name %q", img.name)
			}
		})
	}
}

func TestIncremental(t *testing.T) {
	s := newStand(t)
	path := filepath.Join(t.TempDir(), "d.raw")
	want := disk(t, path)
	run := 0
	publish := func() (snap string, out *lines) {
		t.Helper()
		run++
		b, out := build, &lines{}
		b.RunID = strconv.Itoa(run)
		set, err := open(t, s, Options{Name: "web {{build `Run`}}", Incremental: true, BlocksPerSecond: 5000}, withRun(b)).Process(t.Context(), artifact.Set{Files: []string{path}}, out)
		if err != nil {
			t.Fatal(err)
		}
		return s.images[set.Images[0].ID].snap, out
	}
	first, _ := publish()
	// The first block becomes zero, the second is new, the third stays.
	clear(want[:block])
	copy(want[block:], "news")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	second, out := publish()
	sn := s.snaps[second]
	if sn.form["ParentSnapshotId"] != first || len(sn.data) != 2 || !bytes.HasPrefix(sn.data[1], []byte("news")) || !bytes.Equal(sn.data[0], make([]byte, block)) {
		t.Errorf("parent %v, %d blocks sent, told %q", sn.form["ParentSnapshotId"], len(sn.data), out.all)
	}
	// The third is a difference to the second, and an image that is gone none.
	third, _ := publish()
	if sn := s.snaps[third]; sn.form["ParentSnapshotId"] != second || len(sn.data) != 0 {
		t.Errorf("parent %v, %d blocks sent", sn.form["ParentSnapshotId"], len(sn.data))
	}
	delete(s.snaps, third)
	fourth, _ := publish()
	if sn := s.snaps[fourth]; sn.form["ParentSnapshotId"] != nil || !bytes.Equal(s.content(fourth, len(want)), want) {
		t.Errorf("parent %v", sn.form["ParentSnapshotId"])
	}
	// A memory that a crash cut short is not relied on.
	kept, err := filepath.Glob(filepath.Join(os.Getenv("XDG_STATE_HOME"), "ingot", "lines", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kept {
		if fi, err := os.Stat(k); err == nil && fi.Size() > 0 {
			if err := os.Truncate(k, fi.Size()-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	fifth, _ := publish()
	if sn := s.snaps[fifth]; sn.form["ParentSnapshotId"] != nil {
		t.Errorf("parent %v of a memory with a hole", sn.form["ParentSnapshotId"])
	}
}

// withRun lets options name the run.
func withRun(b postprocessor.Build) postprocessor.Build {
	b.Data = map[string]string{"Run": b.RunID}
	return b
}

func TestDirectFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.raw")
	disk(t, path)
	in := artifact.Set{Files: []string{path}}
	for name, c := range map[string]struct {
		action, code string
		ok           bool
	}{
		"register, reply lost": {"RegisterImage", "lose InternalError", true},
		"register refused":     {"RegisterImage", "InvalidParameterValue", false},
		"block refused":        {"PutSnapshotBlock", "ValidationException", false},
		"share refused":        {"ModifyImageAttribute", "OperationNotPermitted", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.refuse[c.action] = c.code
			_, err := open(t, s, Options{Name: "web", Users: []string{"111122223333"}}, build).Process(t.Context(), in, event.Discard)
			if c.ok != (err == nil) {
				t.Fatal(err)
			}
			want := 0
			if c.ok {
				want = 1
			} else if !strings.Contains(err.Error(), strings.TrimPrefix(c.code, "lose ")) {
				t.Errorf("error %v", err)
			}
			if len(s.images) != want || len(s.snaps) != want {
				t.Errorf("%d images, %d snapshots are left, want %d", len(s.images), len(s.snaps), want)
			}
			noRecords(t)
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		s := newStand(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop")
		out := emit(func(e event.Event) {
			if say, ok := e.(event.Say); ok && strings.HasPrefix(say.Text, "Snapshot ") {
				cancel(stop)
			}
		})
		if _, err := open(t, s, Options{Name: "web"}, build).Process(ctx, in, out); err == nil {
			t.Error("no error")
		}
		if len(s.images)+len(s.snaps) != 0 {
			t.Errorf("%d images, %d snapshots are left", len(s.images), len(s.snaps))
		}
		noRecords(t)
	})
}

type emit func(event.Event)

func (f emit) Emit(e event.Event) { f(e) }

func TestImport(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.ova")
	if err := os.WriteFile(path, bytes.Repeat([]byte("ova "), 5<<20), 0o600); err != nil { // two parts
		t.Fatal(err)
	}
	in := artifact.Set{Files: []string{path}}
	t.Run("unnamed", func(t *testing.T) {
		s := newStand(t)
		set, err := open(t, s, Options{
			S3Bucket: "b", S3Key: "x/{{.BuildName}}", SkipClean: true, LicenseType: "BYOL", Platform: "linux", RoleName: "r",
			Encrypt: true, IMDSSupport: "v2.0", Description: "d", Tags: map[string]string{"a": "b"},
		}, build).Process(t.Context(), in, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		img := s.images[set.Images[0].ID]
		for k, v := range map[string]string{
			"Architecture": "x86_64", "BootMode": "legacy-bios", "LicenseType": "BYOL", "Platform": "linux", "RoleName": "r",
			"Encrypted": "true", "DiskContainer.1.Format": "ova",
		} {
			if got := img.form.Get(k); got != v {
				t.Errorf("%s = %q, want %q", k, got, v)
			}
		}
		if len(s.objects["b/x/web"]) != 20<<20 {
			t.Errorf("objects: %d bytes", len(s.objects["b/x/web"]))
		}
		if img.tags["a"] != "b" || s.snaps[img.snap].tags["a"] != "b" || img.attrs["Description.Value"] != "d" || img.attrs["ImdsSupport.Value"] != "v2.0" {
			t.Errorf("image %+v", img)
		}
	})
	t.Run("named", func(t *testing.T) {
		s := newStand(t)
		p := open(t, s, Options{S3Bucket: "b", Name: "web", Groups: []string{"all"}}, build)
		set, err := p.Process(t.Context(), in, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.images) != 1 || len(s.snaps) != 1 || len(s.objects) != 0 || len(s.parts) != 0 {
			t.Errorf("left: %d images, %d snapshots, %d objects", len(s.images), len(s.snaps), len(s.objects))
		}
		if i := s.images[set.Images[0].ID]; i.name != "web" || !slices.Equal(i.perms, []string{"all"}) {
			t.Errorf("image %+v", i)
		}
		again, err := p.Process(t.Context(), in, event.Discard)
		if err != nil || again.ID != set.ID {
			t.Errorf("again: %v %v", again.ID, err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := newStand(t)
		broken := filepath.Join(dir, "broken.ova")
		if err := os.WriteFile(broken, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, s, Options{S3Bucket: "b", SkipClean: true}, build).Process(t.Context(), artifact.Set{Files: []string{broken}}, event.Discard)
		if err == nil || !strings.Contains(err.Error(), "unknown OS") {
			t.Error(err)
		}
		if len(s.images)+len(s.snaps)+len(s.objects) != 0 {
			t.Errorf("left: %d images, %d snapshots, %d objects", len(s.images), len(s.snaps), len(s.objects))
		}
	})
	t.Run("an attribute is refused", func(t *testing.T) {
		s := newStand(t)
		s.refuse["CreateTags"] = "UnauthorizedOperation"
		if _, err := open(t, s, Options{S3Bucket: "b"}, build).Process(t.Context(), in, event.Discard); awsaccess.Code(err) != "UnauthorizedOperation" {
			t.Error(err)
		}
		if len(s.images)+len(s.snaps)+len(s.objects) != 0 {
			t.Errorf("left: %d images, %d snapshots, %d objects", len(s.images), len(s.snaps), len(s.objects))
		}
	})
	t.Run("goes on", func(t *testing.T) {
		// The task was begun by a process that was killed.
		s := newStand(t)
		p := open(t, s, Options{S3Bucket: "b"}, build)
		token, err := p.(*importer).token(source{path: path, format: "ova"}, "eu-west-1")
		if err != nil {
			t.Fatal(err)
		}
		s.objects["b/old"] = []byte("ova")
		s.ec2(httptest.NewRecorder(), "ImportImage", url.Values{
			"DiskContainer.1.UserBucket.S3Bucket": {"b"}, "DiskContainer.1.UserBucket.S3Key": {"old"},
			"TagSpecification.1.Tag.1.Key": {tagImport}, "TagSpecification.1.Tag.1.Value": {token},
		})
		set, err := p.Process(t.Context(), in, event.Discard)
		if err != nil || len(s.images) != 1 || s.images[set.Images[0].ID] == nil || slices.Contains(s.calls, "ImportImage") || len(s.objects) != 0 {
			t.Errorf("%v; calls %v, %d images, %d objects", err, s.calls, len(s.images), len(s.objects))
		}
	})
}

func TestFindSource(t *testing.T) {
	dir := t.TempDir()
	file := func(name, head string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(head+"............"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	raw, q, ova, bare := file("a.raw", ""), file("b.raw", "QFI\xfb"), file("c.ova", ""), file("vm", "KDMV")
	for _, c := range []struct {
		name         string
		in           artifact.Set
		want         string
		path, format string
	}{
		{"an ova first", artifact.Set{Files: []string{raw, ova}}, "", ova, "ova"},
		{"as asked", artifact.Set{Files: []string{ova, raw}}, "raw", raw, "raw"},
		{"a lie", artifact.Set{Files: []string{q}}, "raw", q, "qcow2"},
		{"no suffix", artifact.Set{Files: []string{bare}}, "", bare, "vmdk"},
		{"the builder says", qemuImage(raw, "raw"), "", raw, "raw"},
		{"none", artifact.Set{Files: []string{raw, bare}}, "vhd", "", ""},
		{"nothing", artifact.Set{}, "", "", ""},
	} {
		s, err := findSource(c.in, c.want)
		if (err != nil) != (c.path == "") || err == nil && (s.path != c.path || s.format != c.format) {
			t.Errorf("%s: %+v %v", c.name, s, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"none":             {Options{}, nil},
		"like Packer":      {Options{S3Bucket: "b", Format: "raw", Architecture: "x86_64", BootMode: "uefi", Platform: "linux"}, nil},
		"ova":              {Options{Format: "ova"}, []string{"s3_bucket_name"}},
		"license":          {Options{LicenseType: "BYOL"}, []string{"s3_bucket_name"}},
		"windows":          {Options{Platform: "windows"}, []string{"s3_bucket_name"}},
		"windows, direct":  {Options{Platform: "windows", ImportMethod: methodDirect}, nil},
		"import, uefi":     {Options{ImportMethod: methodImport, S3Bucket: "b", BootMode: "uefi"}, []string{"platform"}},
		"direct, role":     {Options{ImportMethod: methodDirect, RoleName: "r"}, []string{"import_method"}},
		"unknown values":   {Options{ImportMethod: "x", S3Encryption: "x", IMDSSupport: "x", Format: "x", BootMode: "x", Architecture: "x"}, []string{"import_method", "s3_encryption", "imds_support", "format", "boot_mode", "architecture", "s3_bucket_name"}},
		"names":            {Options{Name: "a", Users: []string{"me"}, Groups: []string{"us"}}, []string{"ami_name", "ami_users", "ami_groups"}},
		"templates":        {Options{Name: "{{", S3Key: "{{nope}}", Tags: map[string]string{"{{": "x"}}, []string{"ami_name", "s3_key_name", "tags"}},
		"encrypted public": {Options{Encrypt: true, Groups: []string{"all"}}, []string{"ami_groups"}},
		"encrypted shared": {Options{Encrypt: true, Users: []string{"111122223333"}}, []string{"ami_kms_key"}},
		"encrypted object": {Options{S3EncryptionKey: "k"}, []string{"s3_encryption_key"}},
		"incremental":      {Options{Incremental: true, Encrypt: true, BlocksPerSecond: -1}, []string{"blocks_per_second", "incremental"}},
		"a key in vain":    {Options{KMSKey: "k"}, []string{"ami_kms_key"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Driver("1", nil).Open(&Config{Options: c.o}, postprocessor.Build{})
			var got []string
			for _, e := range diag.Flatten(err) {
				var f *diag.FieldError
				if !errors.As(e, &f) {
					t.Fatal(e)
				}
				got = append(got, f.Paths[0])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("at fault: %v, want %v (%v)", got, c.want, err)
			}
		})
	}
}

func TestNature(t *testing.T) {
	arm := artifact.Set{Images: []artifact.SystemImage{{Arch: artifact.ARM64, Boot: artifact.UEFI}}}
	for name, c := range map[string]struct {
		o    Options
		in   artifact.Set
		arch artifact.Arch
		boot artifact.BootMode
	}{
		"nothing known":   {Options{}, artifact.Set{}, artifact.X8664, artifact.BIOS},
		"the image's":     {Options{}, arm, artifact.ARM64, artifact.UEFI},
		"the option's":    {Options{Architecture: "arm64"}, artifact.Set{}, artifact.ARM64, artifact.UEFI},
		"contradiction":   {Options{Architecture: "x86_64"}, arm, "", ""},
		"arm64 with BIOS": {Options{BootMode: "legacy-bios"}, arm, "", ""},
	} {
		j := &job{Options: c.o}
		err := j.settleNature(c.in, methodDirect)
		if (err != nil) != (c.arch == "") || err == nil && (j.arch != c.arch || j.boot != c.boot) {
			t.Errorf("%s: %s %s %v", name, j.arch, j.boot, err)
		}
	}
}

// TestGiveUp keeps what a passing fault ended, and only that.
func TestGiveUp(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		kept bool
	}{"passing": {"InternalError", true}, "lasting": {"AccessDeniedException", false}} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			sess, err := awsaccess.Open(t.Context(), awsaccess.Config{}, "1", s.at)
			if err != nil {
				t.Fatal(err)
			}
			s.snaps["snap-1"] = &standSnap{state: "pending"}
			j := &job{token: "t", ec2: sess.EC2(""), sess: sess, out: event.Discard}
			rec, err := j.memory(inUploads, j.token)
			if err != nil {
				t.Fatal(err)
			}
			if err := rec.Start(ebsdirect.Header{Token: "t", SnapshotID: "snap-1"}); err != nil {
				t.Fatal(err)
			}
			up := &ebsdirect.Uploader{Snapshots: j.ec2}
			cause := &smithy.GenericAPIError{Code: c.code}
			err = j.giveUp(t.Context(), up, rec, "", &ebsdirect.SnapshotError{SnapshotID: "snap-1", Err: cause})
			if !errors.Is(err, cause) || (s.snaps["snap-1"] != nil) != c.kept || (diag.Hint(err) != "") != c.kept {
				t.Errorf("%v (hint %q), snapshot kept: %v", err, diag.Hint(err), s.snaps["snap-1"] != nil)
			}
			again, err := j.memory(inUploads, j.token)
			if err != nil {
				t.Fatal(err)
			}
			h, _, err := again.Load()
			if err = errors.Join(err, again.Remove()); err != nil || (h.SnapshotID != "") != c.kept {
				t.Errorf("record %+v %v", h, err)
			}
		})
	}
}

func TestPartSize(t *testing.T) {
	for _, size := range []int64{1, minPart, 100 << 30, 160<<30 + 7, 5 << 40} {
		p := partSize(size)
		if n := (size + p - 1) / p; n > maxParts || p < 5<<20 || p > 5<<30 {
			t.Errorf("%d bytes: %d parts of %d", size, n, p)
		}
	}
}
