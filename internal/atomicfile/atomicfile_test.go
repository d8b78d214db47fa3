package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteReplacesWholly(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	for _, s := range []string{"one", "a longer second"} {
		if err := Write(p, []byte(s), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(p)
		if err != nil || string(got) != s {
			t.Fatalf("%q %v", got, err)
		}
	}
	if fi, _ := os.Stat(p); fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", fi.Mode())
	}
}

func TestFailedFillLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	if err := Write(p, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := WriteTo(p, 0o600, func(w io.Writer) error { _, _ = w.Write([]byte("half")); return boom })
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	es, _ := os.ReadDir(dir)
	got, _ := os.ReadFile(p)
	if len(es) != 1 || string(got) != "old" {
		t.Errorf("left %v, content %q", es, got)
	}
}
