package download

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

var body = bytes.Repeat([]byte("ingot "), 200000)

func sumOf(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

// site serves body at /disk.img, breaking the first cut answers half way, and
// counts the bytes asked for.
type site struct {
	*httptest.Server
	cut    atomic.Int64
	gets   atomic.Int64
	ranges atomic.Int64
	etag   atomic.Value
}

func newSite(t *testing.T) *site {
	s := &site{}
	s.etag.Store(`"1"`)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/disk.img":
			s.gets.Add(1)
			if r.Header.Get("Range") != "" {
				s.ranges.Add(1)
			}
			w.Header().Set("ETag", s.etag.Load().(string))
			if s.cut.Add(-1) >= 0 {
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				_, _ = w.Write(body[:len(body)/2])
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "disk.img", time.Time{}, bytes.NewReader(body))
		case "/SHA256SUMS":
			fmt.Fprintf(w, "%s  other.img\n%s *disk.img\n", strings.Repeat("0", 64), sumOf(body))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestFetchVerifiesAndKeeps(t *testing.T) {
	s := newSite(t)
	sum, err := ParseChecksum(sumOf(body))
	if err != nil {
		t.Fatal(err)
	}
	r := Request{URLs: []string{s.URL + "/missing", s.URL + "/disk.img"}, Checksum: sum, Cache: t.TempDir(), Extension: "iso"}
	for i, fetched := range []bool{true, false} {
		res, err := Fetch(t.Context(), r, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if res.Fetched != fetched || res.SHA256 != sumOf(body) || filepath.Ext(res.Path) != ".iso" {
			t.Errorf("round %d: %+v", i, res)
		}
		if got, _ := os.ReadFile(res.Path); !bytes.Equal(got, body) {
			t.Error("content differs")
		}
	}
	if n := s.gets.Load(); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
	// What went bad in the cache is not used.
	p := r.CachePath(r.URLs[1])
	if err := os.WriteFile(p, []byte("rot"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res, err := Fetch(t.Context(), r, event.Discard); err != nil || !res.Fetched {
		t.Errorf("%+v %v", res, err)
	}
}

func TestFetchContinuesABrokenTransfer(t *testing.T) {
	s := newSite(t)
	s.cut.Store(1)
	res, err := Fetch(t.Context(), Request{URLs: []string{s.URL + "/disk.img"}, Cache: t.TempDir()}, event.Discard)
	if err != nil || res.SHA256 != sumOf(body) {
		t.Fatalf("%+v %v", res, err)
	}
	if s.ranges.Load() != 1 {
		t.Errorf("%d requests for the rest, want 1", s.ranges.Load())
	}
}

func TestWithoutAChecksumTheServerIsAskedForChanges(t *testing.T) {
	s := newSite(t)
	r := Request{URLs: []string{s.URL + "/disk.img"}, Cache: t.TempDir()}
	var got []bool
	for _, tag := range []string{`"1"`, `"1"`, `"2"`} {
		s.etag.Store(tag)
		res, err := Fetch(t.Context(), r, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.Fetched)
	}
	if fmt.Sprint(got) != "[true false true]" {
		t.Errorf("fetched %v", got)
	}
}

func TestWrongChecksumLeavesNothing(t *testing.T) {
	s := newSite(t)
	cache := t.TempDir()
	r := Request{URLs: []string{s.URL + "/disk.img"}, Cache: cache, Checksum: Checksum{Type: "sha256", Hex: strings.Repeat("a", 64)}}
	_, err := Fetch(t.Context(), r, event.Discard)
	var ce *ChecksumError
	if !errors.As(err, &ce) || ce.Got != sumOf(body) || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(cache, "*"))
	for _, l := range left {
		if filepath.Ext(l) != ".lock" {
			t.Errorf("left %s", l)
		}
	}
}

func TestLocalFileAndChecksumFile(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	p := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(p, body, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{p, "file://" + p} {
		res, err := Fetch(t.Context(), Request{URLs: []string{u}, Checksum: Checksum{File: s.URL + "/SHA256SUMS"}, Cache: dir}, event.Discard)
		if err != nil || res.Path != p || res.SHA256 != sumOf(body) {
			t.Errorf("%+v %v", res, err)
		}
	}
	_, err := Fetch(t.Context(), Request{URLs: []string{dir + "/none"}, Cache: dir}, event.Discard)
	if !errors.Is(err, os.ErrNotExist) || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
	if _, err := Fetch(t.Context(), Request{URLs: []string{p}, Checksum: Checksum{File: s.URL + "/none"}, Cache: dir}, event.Discard); err == nil {
		t.Error("a checksum file that is not there must be an error")
	}
}

func TestTwoAtATimeDownloadOnce(t *testing.T) {
	s := newSite(t)
	r := Request{URLs: []string{s.URL + "/disk.img"}, Checksum: Checksum{Type: "sha256", Hex: sumOf(body)}, Cache: t.TempDir()}
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			if _, err := Fetch(t.Context(), r, event.Discard); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := s.gets.Load(); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
}

func TestRememberedDigestIsDroppedWhenTheFileChanges(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	if err := os.WriteFile(p, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stat, _, err := fingerprint(f)
	if err != nil {
		t.Fatal(err)
	}
	js := fmt.Sprintf(`{"stat":%q,"sums":{"sha256":"remembered"}}`, stat)
	if err := os.WriteFile(digestPath(p, dir), []byte(js), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Digest(t.Context(), p, dir); err != nil || got != "remembered" {
		t.Errorf("%q %v", got, err)
	}
	if err := os.WriteFile(p, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Digest(t.Context(), p, dir); err != nil || got != sumOf([]byte("two")) {
		t.Errorf("%q %v", got, err)
	}
}

func TestParseChecksum(t *testing.T) {
	m := md5.Sum(nil)
	md := hex.EncodeToString(m[:])
	for in, want := range map[string]Checksum{
		"none":                               {},
		"NONE":                               {},
		md:                                   {Type: "md5", Hex: md},
		"MD5:" + strings.ToUpper(md):         {Type: "md5", Hex: md},
		"sha512:" + strings.Repeat("a", 128): {Type: "sha512", Hex: strings.Repeat("a", 128)},
		strings.Repeat("b", 56):              {Type: "sha224", Hex: strings.Repeat("b", 56)},
		"file:http://x/SUMS":                 {File: "http://x/SUMS"},
		"file:./SUMS":                        {File: "./SUMS"},
	} {
		got, err := ParseChecksum(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "abc", "sha256:abc", "crc:12345678", "file:", strings.Repeat("g", 64)} {
		if got, err := ParseChecksum(in); err == nil {
			t.Errorf("%q: %+v, want an error", in, got)
		}
	}
}

func TestFindSum(t *testing.T) {
	sha := strings.Repeat("a", 64)
	for in, ok := range map[string]bool{
		sha + "  d.iso\n":                     true,
		"# comment\n" + sha + " *./x/d.iso\n": true,
		"SHA256 (d.iso) = " + sha:             true,
		sha + "\n":                            true,
		strings.Repeat("b", 64) + "  e.iso\n": false,
		"":                                    false,
		sha + "\n" + sha + "\n":               false,
		"-----BEGIN PGP SIGNED MESSAGE-----\n" + sha + "  d.iso": true,
	} {
		got, err := findSum(strings.NewReader(in), "d.iso")
		if (err == nil) != ok || ok && got.Hex != sha {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for in, ok := range map[string]bool{"http://a/b": true, "./x": true, "file:///x": true, "s3://b/k": false, "http://": false, "smb://x": false} {
		if err := CheckURL(in); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func FuzzFindSum(f *testing.F) {
	f.Add("SHA256 (a) = b", "a")
	f.Add(strings.Repeat("a", 64)+" *n", "n")
	f.Fuzz(func(t *testing.T, in, name string) {
		c, err := findSum(strings.NewReader(in), name)
		if err == nil {
			if again, err := ParseChecksum(c.String()); err != nil || again != c {
				t.Errorf("%+v %+v %v", c, again, err)
			}
		}
	})
}
