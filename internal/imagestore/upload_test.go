package imagestore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func upload(t testing.TB, s *Store, id, parent string, size int64) *Upload {
	t.Helper()
	u, err := s.NewUpload(t.Context(), id, parent, size)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func put(t testing.TB, u *Upload, index int64, fill byte) {
	t.Helper()
	if err := u.WriteBlock(index, bytes.Repeat([]byte{fill}, BlockSize)); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, u *Upload) Layer {
	t.Helper()
	l, err := u.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestUploadOverALayer(t *testing.T) {
	s := newStore(t)
	want := noise(20, 8*BlockSize)
	base := importRaw(t, s, want)
	u := upload(t, s, "snap-1", base.Digest, 16*BlockSize)
	want = append(want, make([]byte, 8*BlockSize)...)
	for _, w := range []struct {
		index int64
		fill  byte
	}{{2, 1}, {15, 2}, {3, 0}, {2, 3}, {9, 0}, {4, 5}, {4, 0}, {5, 0}, {5, 6}} {
		put(t, u, w.index, w.fill)
		copy(want[w.index*BlockSize:], bytes.Repeat([]byte{w.fill}, BlockSize))
	}
	if n := u.Count(); n != 6 {
		t.Errorf("%d blocks", n)
	}
	// A block that says what the parent has costs nothing.
	if err := u.WriteBlock(7, want[7*BlockSize:8*BlockSize]); err != nil {
		t.Fatal(err)
	}
	l := commit(t, u)
	checkLayerFile(t, s, l, want)
	if l.Parent != base.Digest || l.Bytes > 3*BlockSize+8*clusterSize {
		t.Errorf("%+v", l)
	}
	if again := commit(t, u); again != l {
		t.Errorf("committed again: %+v", again)
	}
	if err := u.WriteBlock(0, make([]byte, BlockSize)); !errors.Is(err, errCommitted) {
		t.Errorf("a write after the commit: %v", err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	// A caller that died before it knew the digest.
	u, err := s.OpenUpload("snap-1")
	if err != nil {
		t.Fatal(err)
	}
	if again := commit(t, u); again != l {
		t.Errorf("committed after reopening: %+v", again)
	}
	if err := errors.Join(u.Abort(), u.Abort(), u.Close()); err != nil {
		t.Fatal(err)
	}
	var nf *NotFoundError
	if _, err := s.OpenUpload("snap-1"); !errors.As(err, &nf) {
		t.Errorf("after Abort: %v", err)
	}
	if err := s.Scrub(t.Context(), l.Digest); err != nil {
		t.Error(err)
	}
}

func TestUploadRefusals(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	base := importRaw(t, s, noise(21, 4*BlockSize))
	for _, c := range []struct {
		id, parent string
		size       int64
		want       string
	}{
		{"", "", BlockSize, "upload id"},
		{"../x", "", BlockSize, "upload id"},
		{".x", "", BlockSize, "upload id"},
		{"a", "", 0, "multiple"},
		{"a", "", BlockSize + 512, "multiple"},
		{"a", strings.Repeat("0", 64), BlockSize, "no layer"},
		{"a", base.Digest, BlockSize, "less than"},
	} {
		if _, err := s.NewUpload(ctx, c.id, c.parent, c.size); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	u := upload(t, s, "a", "", 4*BlockSize)
	for _, c := range []struct {
		index int64
		n     int
		want  string
	}{{-1, BlockSize, "outside"}, {4, BlockSize, "outside"}, {0, BlockSize - 1, "must have"}, {0, 0, "must have"}} {
		if err := u.WriteBlock(c.index, make([]byte, c.n)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := s.NewUpload(ctx, "a", "", 8*BlockSize); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("the same id with another size: %v", err)
	}
	same := upload(t, s, "a", "", 4*BlockSize)
	if same != u {
		t.Error("one process has the upload twice")
	}
	other, err := Open(s.dir) // as another process
	if err != nil {
		t.Fatal(err)
	}
	var be *BusyError
	if _, err := other.OpenUpload("a"); !errors.As(err, &be) {
		t.Errorf("another process: %v", err)
	}
	if err := errors.Join(u.Close(), same.Close()); err != nil {
		t.Fatal(err)
	}
	if err := u.WriteBlock(0, make([]byte, BlockSize)); !errors.Is(err, errUploadClosed) {
		t.Errorf("after Close: %v", err)
	}
	theirs, err := other.OpenUpload("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Abort(); err != nil {
		t.Fatal(err)
	}
}

func TestUploadByManyWriters(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a large disk")
	}
	s := newStore(t)
	const n = 64
	u := upload(t, s, "many", "", n*BlockSize)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range int64(n) {
				at := (i*7 + int64(w)*5) % n
				if err := u.WriteBlock(at, noise(byte(at), BlockSize)[:BlockSize]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var want []byte
	for i := range n {
		want = append(want, noise(byte(i), BlockSize)...)
	}
	checkLayerFile(t, s, commit(t, u), want)
}

// TestUploadSurvivesTheProcess has another process write blocks without end,
// kills it, and looks for every block that it said was written.
func TestUploadSurvivesTheProcess(t *testing.T) {
	const size = 1024 * BlockSize
	if dir := os.Getenv("UPLOAD_INTO"); dir != "" {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		u := upload(t, s, "up", "", size)
		for i := int64(0); ; i++ {
			put(t, u, i*i%97, byte(i%3)) // overwritten and zero ones too
			fmt.Printf("wrote %d\n", i)
		}
	}
	s := newStore(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestUploadSurvivesTheProcess$")
	cmd.Env = append(os.Environ(), "UPLOAD_INTO="+s.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n := int64(-1)
		if _, err := fmt.Sscanf(lines.Text(), "wrote %d", &n); err == nil {
			last = n
		}
		if last == 200 {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if last < 200 {
		t.Fatalf("the other process ended after block %d", last)
	}
	// The write after the last one reported may have happened, or not.
	var before, after [97]byte
	var wrote [97]bool
	for i := range last + 1 {
		before[i*i%97] = byte(i % 3)
		wrote[i*i%97] = true
	}
	after = before
	next := (last + 1) * (last + 1) % 97
	after[next] = byte((last + 1) % 3)

	u, err := s.OpenUpload("up")
	if err != nil {
		t.Fatal(err)
	}
	put(t, u, 500, 9) // it goes on
	blocks := 1
	for _, w := range wrote {
		if w {
			blocks++
		}
	}
	if n := u.Count(); n != blocks && n != blocks+1 {
		t.Errorf("%d blocks, want %d", n, blocks)
	}
	got := content(t, s, commit(t, u).Digest)
	for i := range int64(97) {
		b := got[i*BlockSize : (i+1)*BlockSize]
		if !bytes.Equal(b, bytes.Repeat([]byte{before[i]}, BlockSize)) && !bytes.Equal(b, bytes.Repeat([]byte{after[i]}, BlockSize)) {
			t.Errorf("block %d is lost", i)
		}
	}
	if got[500*BlockSize] != 9 {
		t.Error("the block written afterwards is lost")
	}
}

func TestUploadDamageIsFound(t *testing.T) {
	s := newStore(t)
	u := upload(t, s, "d", "", 4*BlockSize)
	put(t, u, 0, 1)
	put(t, u, 1, 2)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	index, blocks := filepath.Join(u.dir, "index"), filepath.Join(u.dir, "blocks")
	reopen := func() (*Upload, error) { return s.OpenUpload("d") }

	// A torn record is of a write that did not return.
	f, err := os.OpenFile(index, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, recordSize-1)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if u, err = reopen(); err != nil {
		t.Fatal(err)
	}
	put(t, u, 2, 3)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if u, err = reopen(); err != nil || u.Count() != 3 {
		t.Fatal(err, u.Count())
	}
	change(t, blocks, flip(BlockSize+9))
	var de *DamageError
	if _, err := u.Commit(t.Context()); !errors.As(err, &de) || !strings.Contains(err.Error(), "block 1 ") {
		t.Errorf("a changed block: %v", err)
	}
	put(t, u, 1, 2)
	if l := commit(t, u); content(t, s, l.Digest)[2*BlockSize-1] != 2 {
		t.Error("block 1 is not what was written again")
	}

	v := upload(t, s, "e", "", BlockSize)
	put(t, v, 0, 1)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, filepath.Join(v.dir, "index"), flip(3))
	if _, err := s.OpenUpload("e"); !errors.As(err, &de) {
		t.Errorf("a changed record: %v", err)
	}
	if err := errors.Join(s.RemoveUpload("e"), s.RemoveUpload("e"), s.RemoveUpload("../x")); err != nil {
		t.Error(err)
	}
	if w := upload(t, s, "e", "", 2*BlockSize); w.Count() != 0 {
		t.Error("blocks in a new upload")
	}
	other, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var be *BusyError
	if err := other.RemoveUpload("e"); !errors.As(err, &be) {
		t.Errorf("another process's: %v", err)
	}
	if err := s.RemoveUpload("e"); err != nil {
		t.Error(err)
	}
}

func FuzzUploadIndex(f *testing.F) {
	a, b := record(1, slot{0, 7}), record(0, slot{-1, 0})
	f.Add(append(a[:], b[:]...))
	f.Add(a[:10])
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "index"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLog(dir, 16*BlockSize)
		if err != nil {
			return
		}
		defer l.close()
		if len(l.at) > len(raw)/recordSize || l.end > int64(len(raw)) {
			t.Errorf("%d blocks, %d bytes of %d", len(l.at), l.end, len(raw))
		}
	})
}
