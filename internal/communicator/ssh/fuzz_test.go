package ssh

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzMarker feeds what a guest may write before, as and after the line that
// says that a program has begun, in pieces.
func FuzzMarker(f *testing.F) {
	f.Add("noise", "ok", "rest", 3)
	f.Add("ingot-", "put", "", 1)
	f.Add("", "ok gnu\r", "ingot-token ok\n", 100)
	f.Fuzz(func(t *testing.T, before, word, after string, step int) {
		const token = "ingot-token"
		if strings.Contains(before+"i", token+" ") || strings.ContainsAny(word, "\n\r") || word == "" || len(before) > maxNoise/2 || step <= 0 {
			return
		}
		var out bytes.Buffer
		said := make(chan string, 1)
		m := &marker{token: token, w: &out, said: said}
		all := []byte(before + token + " " + word + "\n" + after)
		for len(all) > 0 {
			n := min(step, len(all))
			if _, err := m.Write(all[:n]); err != nil {
				t.Fatal(err)
			}
			all = all[n:]
		}
		m.end()
		if got := <-said; got != word {
			t.Errorf("said %q, want %q", got, word)
		}
		want := after
		if strings.HasPrefix(word, "ok") {
			want = before + after
		}
		if out.String() != want {
			t.Errorf("passed on %q, want %q", out.String(), want)
		}
	})
}

func FuzzFramer(f *testing.F) {
	f.Add("noise", "content", 3)
	f.Add("", "", 1)
	f.Add("ingot-token", "ingot-tokeningot-", 2)
	f.Fuzz(func(t *testing.T, before, content string, step int) {
		const token = "ingot-token\n"
		if strings.Contains(before+token[:len(token)-1], token) || step <= 0 {
			return
		}
		var out bytes.Buffer
		fr := &framer{token: token, w: &out}
		all := []byte(before + token + content + token)
		for len(all) > 0 {
			if fr.complete() && content == "" && before == "" {
				break
			}
			n := min(step, len(all))
			if _, err := fr.Write(all[:n]); err != nil {
				t.Fatal(err)
			}
			all = all[n:]
		}
		if out.String() != content || !fr.complete() {
			t.Errorf("passed on %q, want %q; complete %t", out.String(), content, fr.complete())
		}
	})
}

// FuzzExtract has the guest send any stream: nothing may appear outside of
// the folder.
func FuzzExtract(f *testing.F) {
	for _, h := range []tar.Header{
		{Name: "a/b", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644},
		{Name: "../outside", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644},
		{Name: "/outside", Typeflag: tar.TypeReg, Size: 1},
		{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."},
		{Name: "h", Typeflag: tar.TypeLink, Linkname: "../x"},
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o4000},
	} {
		f.Add(tarOf(f, h))
	}
	f.Add(tarOf(f, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, tar.Header{Name: "l/outside", Typeflag: tar.TypeReg, Size: 1}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 1<<16 {
			return
		}
		top := t.TempDir()
		dir := filepath.Join(top, "dst")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close() //nolint:errcheck // test
		var zipped bytes.Buffer
		zw := gzip.NewWriter(&zipped)
		_, _ = zw.Write(stream)
		_ = zw.Close()
		_ = (&extractor{root: root, modes: map[string]fs.FileMode{}}).extract(&zipped)
		if left, _ := os.ReadDir(top); len(left) != 1 {
			t.Errorf("it got out: %v", left)
		}
	})
}

func tarOf(tb testing.TB, headers ...tar.Header) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		if err := tw.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		_, _ = tw.Write(make([]byte, h.Size))
	}
	_ = tw.Close()
	return b.Bytes()
}

func FuzzNames(f *testing.F) {
	f.Add("~/x")
	f.Add("../x")
	f.Add("$HOME/x")
	f.Fuzz(func(t *testing.T, name string) {
		if got, ok := guestName(name); ok && (strings.ContainsAny(got, "\n\x00") || !strings.HasPrefix(got, "/") && !strings.HasPrefix(got, "~/") && !strings.HasPrefix(got, "./")) {
			t.Errorf("guestName(%q) = %q", name, got)
		}
		if got, err := localName(name); err == nil && !filepath.IsLocal(got) {
			t.Errorf("localName(%q) = %q", name, got)
		}
		processID(name)
		_ = printable(name)
		_, _ = parseHostKeys([]string{name})
	})
}
