package winrm

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
)

// noise is n bytes that do not compress, the same every time.
func noise(n int) []byte {
	src := rand.NewChaCha8([32]byte{1})
	p := make([]byte, n)
	_, _ = src.Read(p)
	return p
}

func TestPutAndGet(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{NoBasic: true, Sealed: true})
	c := dial(t, s, nil)
	for name, p := range map[string][]byte{
		"empty": {}, "text": []byte(strings.Repeat("hello wörld\r\n", 100)), "binary": noise(500_001), "long text": bytes.Repeat([]byte("0123456789"), 60_000),
	} {
		for _, size := range []int64{-1, int64(len(p))} {
			dst := `C:\Windows\Temp\new folder\It's ` + name + `.bin`
			if err := c.Put(bounded(t), dst, 0o644, bytes.NewReader(p), size); err != nil {
				t.Fatal(name, err)
			}
			if got, ok := s.ReadFile("c:/windows/temp/NEW folder/it's " + name + ".bin"); !ok || got != string(p) {
				t.Errorf("%s: %d bytes on the guest, want %d", name, len(got), len(p))
			}
			var back bytes.Buffer
			if err := c.Get(bounded(t), dst, &back); err != nil || !bytes.Equal(back.Bytes(), p) {
				t.Errorf("%s: %d bytes came back, want %d: %v", name, back.Len(), len(p), err)
			}
		}
	}
	// A second Put replaces the first, and variables are expanded there.
	if err := c.Put(bounded(t), `%TEMP%\a`, 0o644, strings.NewReader("long"), 4); err != nil {
		t.Fatal(err)
	}
	if err := c.Put(bounded(t), `%TEMP%\a`, 0o644, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.ReadFile(`C:\Windows\Temp\a`); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestLargePut(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	const large = 1 << 20
	c.large = large
	p := noise(large + 12_345)
	s.WriteFile(t, "c:/big", strings.Repeat("old", 1<<20))
	before := s.Asked("Create")
	if err := c.Put(bounded(t), "c:/big", 0o644, bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.ReadFile("c:/big"); got != string(p) {
		t.Errorf("%d bytes, want %d", len(got), len(p))
	}
	if n := s.Asked("Create") - before; n != sideBySide {
		t.Errorf("%d shells took part", n)
	}
	for name, size := range map[string]int64{"fewer": large + 99_999, "more": large} {
		if err := c.Put(bounded(t), "c:/big", 0o644, bytes.NewReader(p), size); err == nil {
			t.Errorf("%s bytes than promised, and no error", name)
		}
	}
}

func TestPutFaults(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	s.WriteFile(t, "c:/folder/x", "")
	var put *communicator.PutError
	if err := c.Put(bounded(t), "c:/folder", 0o644, strings.NewReader("x"), 1); !errors.As(err, &put) || !strings.Contains(err.Error(), "denied") {
		t.Errorf("onto a folder: %v", err)
	}
	// What is said while there is more to send is not lost either.
	if err := c.Put(bounded(t), "c:/folder", 0o644, bytes.NewReader(noise(1<<20)), -1); !errors.As(err, &put) || !strings.Contains(err.Error(), "denied") {
		t.Errorf("onto a folder, much: %v", err)
	}
	broken := errors.New("broken source")
	err := c.Put(bounded(t), "c:/x", 0o644, io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), -1)
	if !errors.Is(err, broken) || errors.As(err, &put) {
		t.Errorf("err = %v", err)
	}
	if err := c.Get(bounded(t), "c:/none", io.Discard); err == nil || !strings.Contains(err.Error(), "c:/none") {
		t.Errorf("err = %v", err)
	}
	if err := c.Get(bounded(t), "c:/folder/x", fullWriter{}); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
	s.WriteFile(t, "c:/folder/x", "text")
	if err := c.Get(bounded(t), "c:/folder/x", fullWriter{}); !errors.Is(err, errFull) {
		t.Errorf("err = %v", err)
	}
	wait(t, "the shells to be removed", func() bool { return s.Shells() == 0 })
}

var errFull = errors.New("full")

type fullWriter struct{}

func (fullWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, errFull
}

func TestTrees(t *testing.T) {
	t.Parallel()
	for name, factor := range map[string]int{"small": 1, "large": 3} {
		t.Run(name, func(t *testing.T) {
			s := winrmtest.Start(t, winrmtest.Options{NoBasic: true})
			c := dial(t, s, nil)
			c.large = 1 << 20
			src := t.TempDir()
			want := map[string]string{}
			const size = 80_000
			for i := range 5 * factor {
				p := filepath.Join("dir", itoa(i%3), "f"+itoa(i)+".bin")
				want[filepath.ToSlash(p)] = string(noise(size)[:size-i])
			}
			for p, text := range want {
				if err := os.MkdirAll(filepath.Join(src, filepath.Dir(p)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(src, p), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(src, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("dir/0/f0.bin", filepath.Join(src, "link.bin")); err != nil {
				t.Fatal(err)
			}
			want["link.bin"] = want["dir/0/f0.bin"]
			var done atomic.Int64
			if err := c.PutTree(bounded(t), "C:/dst", os.DirFS(src), func(n int64) { done.Store(n) }); err != nil {
				t.Fatal(err)
			}
			total := 0
			for p, text := range want {
				total += len(text)
				if got, _ := s.ReadFile("c:/dst/" + p); got != text {
					t.Errorf("%s: %d bytes, want %d", p, len(got), len(text))
				}
			}
			if done.Load() != int64(total) {
				t.Errorf("progress ended at %d of %d", done.Load(), total)
			}
			back := t.TempDir()
			if err := c.GetTree(bounded(t), `C:\dst`, back); err != nil {
				t.Fatal(err)
			}
			for p, text := range want {
				if got, err := os.ReadFile(filepath.Join(back, p)); err != nil || string(got) != text {
					t.Errorf("%s: %v", p, err)
				}
			}
			if fi, err := os.Stat(filepath.Join(back, "empty")); err != nil || !fi.IsDir() {
				t.Errorf("the empty folder: %v", err)
			}
		})
	}
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	if err := c.PutTree(bounded(t), "c:/x", fstest.MapFS{"a": {Mode: fs.ModeDir | 0o755}}, nil); err != nil {
		t.Error(err)
	}
	if got := s.Files("c:/x"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
	if err := c.GetTree(bounded(t), "c:/none", t.TempDir()); err == nil {
		t.Error("a missing folder was got")
	}
}
