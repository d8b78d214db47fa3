package imagestore

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func gc(t *testing.T, s *Store, keep ...string) (removed int) {
	t.Helper()
	n, freed, err := s.GC(t.Context(), func(d string) bool { return slices.Contains(keep, d) })
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 && freed < int64(n)*clusterSize {
		t.Errorf("%d layers freed %d bytes", n, freed)
	}
	return n
}

func there(s *Store, l Layer) bool {
	_, err := s.Stat(l.Digest)
	return err == nil
}

func TestGCKeepsWhatIsBelowWhatIsKept(t *testing.T) {
	s := newStore(t)
	l := threeLayers(t, s)
	side := importRaw(t, s, noise(30, 1<<20))
	if n := gc(t, s, l[0].Digest, side.Digest); n != 0 {
		t.Errorf("%d removed", n)
	}
	if n := gc(t, s, l[1].Digest); n != 2 || there(s, l[0]) || there(s, side) || !there(s, l[1]) {
		t.Errorf("%d removed", n)
	}
	if n := gc(t, s); n != 2 {
		t.Errorf("%d removed", n)
	}
	for _, dir := range []string{"layers", "verified", "tmp"} {
		if es, err := os.ReadDir(filepath.Join(s.dir, dir)); len(es) > 0 || err != nil {
			t.Errorf("left in %s: %v %v", dir, es, err)
		}
	}
}

func TestGCLeavesWhatIsInUse(t *testing.T) {
	s := newStore(t)
	l := threeLayers(t, s)
	other, err := Open(s.dir) // as another process
	if err != nil {
		t.Fatal(err)
	}
	d, err := other.Read(l[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if n := gc(t, s); n != 1 || !there(s, l[1]) || !there(s, l[2]) {
		t.Errorf("%d removed while a disk is read", n)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	u := upload(t, other, "u", l[2].Digest, 4<<20)
	if n := gc(t, s); n != 1 || !there(s, l[2]) {
		t.Errorf("%d removed while an upload is over a layer", n)
	}
	put(t, u, 7, 1)
	made := commit(t, u)
	if n := gc(t, s); n != 0 {
		t.Errorf("%d removed while nobody knows the layer of an upload", n)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if n := gc(t, s, made.Digest); n != 0 {
		t.Errorf("%d removed", n)
	}
	var nf *NotFoundError
	if _, err := s.OpenUpload("u"); !errors.As(err, &nf) {
		t.Errorf("a finished upload is still there: %v", err)
	}
	if n := gc(t, s); n != 2 {
		t.Errorf("%d removed", n)
	}
}

func TestGCSeesQEMU(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Skip(err)
	}
	s := newStore(t)
	l := threeLayers(t, s)
	p := overlay(t, s, l[0].Digest, 0)
	cmd := exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", p)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("length\n")); err != nil {
		t.Fatal(err)
	}
	// It answers when it has everything open.
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "MiB") {
		t.Fatalf("%q %v", line, err)
	}
	n := gc(t, s)
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if n != 0 {
		t.Errorf("%d removed under a running QEMU", n)
	}
	if n = gc(t, s); n != 3 {
		t.Errorf("%d removed afterwards", n)
	}
}

func TestGCWaitsForHolds(t *testing.T) {
	s := newStore(t)
	l := importRaw(t, s, noise(31, 1<<20))
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		n, _, err := s.GC(t.Context(), func(string) bool { return false })
		if err != nil {
			t.Error(err)
		}
		done <- n
	}()
	// Whatever the other goroutine has done so far, the layer must be there.
	for range 100 {
		if !there(s, l) {
			t.Fatal("removed under a hold")
		}
	}
	release()
	release()
	if n := <-done; n != 1 {
		t.Errorf("%d removed", n)
	}
}

// TestGCRefusesWhenItCannotKnow: what is below a damaged layer is not known.
func TestGCRefusesWhenItCannotKnow(t *testing.T) {
	s := newStore(t)
	l := threeLayers(t, s)
	change(t, s.Path(l[0].Digest), flip(0))
	var de *DamageError
	if _, _, err := s.GC(t.Context(), func(d string) bool { return d == l[0].Digest }); !errors.As(err, &de) {
		t.Errorf("error %v", err)
	}
	if !there(s, l[1]) || !there(s, l[2]) {
		t.Error("layers below a damaged one were removed")
	}
	if _, err := s.List(t.Context()); !errors.As(err, &de) {
		t.Errorf("List: %v", err)
	}
	if n := gc(t, s, l[2].Digest); n != 2 {
		t.Errorf("%d removed", n)
	}
}

func TestSweepKnowsTheLiving(t *testing.T) {
	s := newStore(t)
	mine, err := s.temp()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.discard()
	dead := filepath.Join(s.dir, "tmp", "1-dead")
	if err := os.WriteFile(dead, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	n, freed, err := s.Sweep(t.Context())
	if n != 1 || freed != 1000 || err != nil {
		t.Errorf("%d files of %d bytes, %v", n, freed, err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if !samePath(mine.File) {
		t.Error("a file in use was removed")
	}
}

// TestUnbornUploads: a process may die between making the folder and the
// description of an upload.
func TestUnbornUploads(t *testing.T) {
	s := newStore(t)
	for _, id := range []string{"a", "b"} {
		if err := os.Mkdir(s.uploadDir(id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(s.uploadDir("a"), uploadLock))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ok, err := flock(f, unix.LOCK_EX); !ok || err != nil {
		t.Fatal(ok, err)
	}
	gc(t, s)
	if es, _ := os.ReadDir(filepath.Join(s.dir, "uploads")); len(es) != 1 || es[0].Name() != "a" {
		t.Errorf("%v", es)
	}
	if u := upload(t, s, "b", "", BlockSize); u.Count() != 0 {
		t.Error("blocks in a new upload")
	}
}
