package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

// tree writes files; a name that ends in a slash is a folder, a content that
// begins with "-> " a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch to, link := strings.CutPrefix(content, "-> "); {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(to, path)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// list is the reverse of tree.
func listTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			out[rel] = "-> " + to
			return err
		case d.IsDir():
			left, err := os.ReadDir(p)
			if len(left) == 0 {
				out[rel+"/"] = ""
			}
			return err
		}
		b, err := os.ReadFile(p)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("%s: %s is %q (there: %v), want %q", what, k, g, ok, v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %s should not be there", what, k)
		}
	}
}

func apply(t *testing.T, g communicator.Guest, c Config) (*provisionertest.Events, error) {
	t.Helper()
	p, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	var out provisionertest.Events
	return &out, p.Apply(provisionertest.Context(t), g, &out)
}

func TestUpload(t *testing.T) {
	t.Parallel()
	g := provisionertest.Start(t).Connect()
	src := tree(t, map[string]string{"app/a": "1", "app/sub/b c": "2", "app/empty/": "", "app/link": "-> sub/b c", "one": "3", "two": "4"})
	if err := os.Chmod(src+"/one", 0o750); err != nil {
		t.Fatal(err)
	}
	app := map[string]string{"a": "1", "sub/b c": "2", "empty/": "", "link": "-> sub/b c"}
	under := func(dir string) map[string]string {
		out := map[string]string{}
		for k, v := range app {
			out[dir+"/"+k] = v
		}
		return out
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want map[string]string
	}{
		{"content", Config{Content: "x\n", Destination: "/c"}, map[string]string{"c": "x\n"}},
		{"file", Config{Source: src + "/one", Destination: "/new name"}, map[string]string{"new name": "3"}},
		{"file into a folder", Config{Source: src + "/one", Destination: "/"}, map[string]string{"one": "3"}},
		{"several", Config{Sources: []string{src + "/one", src + "/two"}, Destination: "/"}, map[string]string{"one": "3", "two": "4"}},
		{"folder into a folder", Config{Source: src + "/app", Destination: "/"}, under("app")},
		{"folder into a folder named without a slash", Config{Source: src + "/app", Destination: ""}, under("app")},
		{"folder to a new name", Config{Source: src + "/app", Destination: "/other"}, under("other")},
		{"folder into a new folder", Config{Source: src + "/app", Destination: "/other/"}, under("other/app")},
		{"content of a folder", Config{Source: src + "/app/", Destination: "/other"}, under("other")},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := t.TempDir()
			c.cfg.Destination = dst + c.cfg.Destination
			out, err := apply(t, g, c.cfg)
			if err != nil {
				t.Fatal(err, diag.Hint(err))
			}
			equal(t, "guest", listTree(t, dst), c.want)
			if c.cfg.Content != "" {
				return
			}
			last := map[string]event.Progress{}
			for _, e := range out.All() {
				if p, ok := e.(event.Progress); ok {
					last[p.Task] = p
				}
			}
			for task, p := range last {
				if p.Done != p.Total || p.Total == 0 {
					t.Errorf("progress of %s ends at %d of %d", task, p.Done, p.Total)
				}
			}
			if len(last) == 0 {
				t.Error("no progress was told")
			}
		})
	}
	dst := t.TempDir()
	if _, err := apply(t, g, Config{Source: src + "/one", Destination: dst + "/x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(t, g, Config{Content: "x", Destination: dst + "/c"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"x": 0o750, "c": 0o600} {
		if fi, err := os.Stat(filepath.Join(dst, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("mode of %s: %v %v, want %v", name, fi.Mode(), err, want)
		}
	}
	_, err := apply(t, g, Config{Source: src + "/one", Destination: dst + "/no/such/x"})
	var put *communicator.PutError
	if !errors.As(err, &put) || diag.Hint(err) == "" {
		t.Errorf("into a folder that is missing: %v", err)
	}
	if _, err := apply(t, g, Config{Source: src + "/gone", Destination: dst + "/x", Generated: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a generated file that was not made: %v", err)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	g := provisionertest.Start(t).Connect()
	remote := tree(t, map[string]string{"app/a": "1", "app/sub/b": "2", "x 1.log": "3", "x 2.log": "4", "xdir/c": "5", "y.log": "6"})
	for _, c := range []struct {
		name     string
		src, dst string
		want     map[string]string
	}{
		{"file", "/y.log", "/deep/name", map[string]string{"deep/name": "6"}},
		{"file into a folder", "/y.log", "/deep/", map[string]string{"deep/y.log": "6"}},
		{"folder", "/app/", "/new", map[string]string{"new/app/a": "1", "new/app/sub/b": "2"}},
		{"pattern", "/x *.log", "/logs/", map[string]string{"logs/x 1.log": "3", "logs/x 2.log": "4"}},
		{"pattern with folders", "/[x]*", "/logs", map[string]string{"logs/x 1.log": "3", "logs/x 2.log": "4", "logs/xdir/c": "5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := t.TempDir()
			if _, err := apply(t, g, Config{Source: remote + c.src, Destination: dst + c.dst, Direction: download}); err != nil {
				t.Fatal(err)
			}
			equal(t, "here", listTree(t, dst), c.want)
		})
	}

	dst := t.TempDir()
	for name, c := range map[string]Config{
		"file":    {Source: remote + "/no", Destination: dst + "/x"},
		"pattern": {Source: remote + "/no*", Destination: dst},
		"folder":  {Source: remote + "/no/", Destination: dst},
	} {
		c.Direction = download
		if _, err := apply(t, g, c); err == nil {
			t.Errorf("%s that is missing: no error", name)
		}
	}
	if left := listTree(t, dst); left["x"] != "" || left[".x.part"] != "" {
		t.Errorf("left of what failed: %v", left)
	}

	// A link here is never a way out of the destination for a guest's names.
	outside := t.TempDir()
	dst = tree(t, map[string]string{"app": "-> " + outside, "y.log": "-> " + outside + "/y.log"})
	if _, err := apply(t, g, Config{Source: remote + "/app/", Destination: dst, Direction: download}); err == nil {
		t.Error("a folder was downloaded through a link")
	}
	if _, err := apply(t, g, Config{Source: remote + "/y*", Destination: dst, Direction: download}); err != nil {
		t.Error(err)
	}
	equal(t, "outside", listTree(t, outside), map[string]string{"./": ""})
}

func TestKey(t *testing.T) {
	key := func(c Config) string {
		t.Helper()
		p, err := open(c)
		if err != nil {
			t.Fatal(err)
		}
		k, err := p.Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k.String()
	}
	files := map[string]string{"app/a": "1", "app/l": "-> a", "one": "1"}
	first, second := tree(t, files), tree(t, files)
	start := Config{Source: first + "/app", Destination: "/d"}
	if key(start) == "" {
		t.Fatal("no key")
	}
	if key(start) != key(Config{Sources: []string{second + "/app"}, Destination: "/d"}) {
		t.Error("the same content elsewhere changes the key")
	}
	if err := os.WriteFile(second+"/app/a", []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	third, fourth, fifth := tree(t, files), tree(t, files), tree(t, files)
	for _, err := range []error{
		os.Chmod(third+"/app/a", 0o604), os.Rename(fourth+"/app/a", fourth+"/app/b"),
		os.Remove(fifth + "/app/l"), os.Symlink("x", fifth+"/app/l"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]string{key(start): "start"}
	for name, c := range map[string]Config{
		"content of a file": {Source: second + "/app", Destination: "/d"},
		"mode":              {Source: third + "/app", Destination: "/d"},
		"name":              {Source: fourth + "/app", Destination: "/d"},
		"link":              {Source: fifth + "/app", Destination: "/d"},
		"destination":       {Source: first + "/app", Destination: "/e"},
		"trailing slash":    {Source: first + "/app/", Destination: "/d"},
		"one file":          {Source: first + "/one", Destination: "/d"},
		"content":           {Content: "1", Destination: "/d"},
		"other content":     {Content: "2", Destination: "/d"},
	} {
		k := key(c)
		if other, ok := seen[k]; ok || k == "" {
			t.Errorf("%s: key %q is that of %q", name, k, other)
		}
		seen[k] = name
	}
	for name, c := range map[string]Config{
		"download":  {Source: "/x", Destination: "/d", Direction: download},
		"generated": {Source: first + "/one", Destination: "/d", Generated: true},
	} {
		if k := key(c); k != "" {
			t.Errorf("%s has the key %s", name, k)
		}
	}
}

func TestOpenReportsEveryFault(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []string
	}{
		"nothing":            {Config{}, []string{"destination", "source"}},
		"missing":            {Config{Source: "/no/such", Destination: "x"}, []string{"source"}},
		"missing in a list":  {Config{Sources: []string{"/", "/no/such"}, Destination: "x"}, []string{"sources[1]"}},
		"generated":          {Config{Source: "/no/such", Destination: "x", Generated: true}, nil},
		"two":                {Config{Source: "/", Content: "x", Destination: "x"}, []string{"source"}},
		"direction":          {Config{Source: "/", Destination: "x", Direction: "sideways"}, []string{"direction"}},
		"content downloaded": {Config{Content: "x", Destination: "x", Direction: download}, []string{"content"}},
		"content in folder":  {Config{Content: "x", Destination: "x/"}, []string{"destination"}},
		"remote source":      {Config{Source: "/no/such", Destination: "x", Direction: download}, nil},
	} {
		_, err := open(c.cfg)
		var got []string
		for _, e := range diag.Flatten(err) {
			var f *diag.FieldError
			if !errors.As(e, &f) {
				t.Fatalf("%s: %v is not about an option", name, e)
			}
			got = append(got, f.Paths[0])
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: faults in %q, want %q", name, got, c.want)
		}
	}
}

func TestQuotePattern(t *testing.T) {
	for in, want := range map[string]string{
		"/a b/*.l'g": `'/a b/'*'.l'"'"'g'`, "~/x?": `~/'x'?`, "$(id)*": `'$(id)'*`, "[!a-z]": "[!'a'-'z']",
	} {
		if got := quotePattern(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
