// Package download fetches large files once, keeps them in a folder shared by
// runs and processes, and never hands out one whose checksum does not match.
package download

import (
	"context"
	"crypto/sha1" //nolint:gosec // a name, not a defence
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// A Request says what is wanted.
type Request struct {
	URLs      []string // http, https, file, or a local path; tried in order
	Checksum  Checksum
	Cache     string // folder, made when missing
	Target    string // path to download to instead of the cache; "" for the cache
	Extension string // of the name in the cache, without a dot
	Client    *http.Client
}

// A Result is a file that is there and matches the request's checksum.
type Result struct {
	URL      string // the one it came from
	Path     string // of a local file: where it is, it is not copied
	SHA256   string // hex
	Size     int64
	Fetched  bool // it was downloaded now
	Checksum Checksum
}

// A ChecksumError says that a file is not the one that was asked for.
type ChecksumError struct {
	Name string
	Type string
	Want string
	Got  string
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has the %s checksum %s, not %s", e.Name, e.Type, e.Got, e.Want)
}

// CheckURL returns an error when the scheme of s is not known here.
func CheckURL(s string) error {
	_, _, err := split(s)
	return err
}

// split returns a local path or a web address.
func split(s string) (local string, web *url.URL, err error) {
	if rest, ok := strings.CutPrefix(s, "file://"); ok {
		if p, err := url.PathUnescape(rest); err == nil {
			rest = p
		}
		return rest, nil, nil
	}
	scheme, _, ok := strings.Cut(s, "://")
	if !ok {
		return s, nil, nil
	}
	switch strings.ToLower(scheme) {
	case "http", "https":
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return "", nil, fmt.Errorf("%q is not a web address", s)
		}
		return "", u, nil
	}
	return "", nil, fmt.Errorf("%q: addresses with %q are not supported; it is http, https, file or a local path", s, scheme)
}

// name is what a checksum file calls the thing at u.
func name(u string) string {
	if local, web, err := split(u); err == nil {
		if web != nil {
			return path.Base(web.Path)
		}
		return filepath.Base(local)
	}
	return path.Base(u)
}

// CachePath is where the request's file is kept when it comes from u.
func (r Request) CachePath(u string) string {
	if r.Target != "" {
		return r.Target
	}
	key := u
	if !r.Checksum.None() {
		key = r.Checksum.String()
	}
	sum := sha1.Sum([]byte(key)) //nolint:gosec // as above
	n := hex.EncodeToString(sum[:])
	if r.Extension != "" {
		n += "." + strings.TrimPrefix(r.Extension, ".")
	}
	return filepath.Join(r.Cache, n)
}

// Fetch returns the file of the first address that works. Two processes that
// want the same file download it once. A file whose checksum does not match is
// removed from the cache, *[ChecksumError] is returned and no other address
// hides it.
func Fetch(ctx context.Context, r Request, out event.Sink) (Result, error) {
	if len(r.URLs) == 0 {
		return Result{}, errors.New("download: there is no address")
	}
	if r.Client == nil {
		r.Client = http.DefaultClient
	}
	var errs []error
	for _, u := range r.URLs {
		res, err := r.fetch(ctx, u, out)
		if err == nil {
			return res, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return Result{}, cause
		}
		errs = append(errs, err)
		var ce *ChecksumError
		if errors.As(err, &ce) {
			break
		}
		if len(errs) < len(r.URLs) {
			out.Emit(event.Warn{Text: fmt.Sprintf("%v; trying the next address", err)})
		}
	}
	return Result{}, errors.Join(errs...)
}

func (r Request) fetch(ctx context.Context, u string, out event.Sink) (Result, error) {
	local, web, err := split(u)
	if err != nil {
		return Result{}, err
	}
	dst := r.CachePath(u)
	want, err := r.resolve(ctx, u)
	if err != nil {
		return Result{}, err
	}
	if web == nil {
		return r.local(ctx, u, local, want)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return Result{}, fmt.Errorf("download folder: %w", err)
	}
	unlock, err := lock(ctx, dst+".lock", out)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if !want.None() {
		if res, err := r.found(ctx, u, dst, want); err == nil {
			return res, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			out.Emit(event.Say{Text: fmt.Sprintf("What is kept of %s is not usable (%v): downloading it again", u, err)})
		}
	}
	fetched, err := r.get(ctx, web, dst, want, out)
	if err != nil {
		return Result{}, err
	}
	res, err := r.found(ctx, u, dst, want)
	res.Fetched = fetched
	return res, err
}

// found verifies what is at p.
func (r Request) found(ctx context.Context, u, p string, want Checksum) (Result, error) {
	st, err := os.Stat(p)
	if err != nil {
		return Result{}, err
	}
	if st.IsDir() {
		return Result{}, fmt.Errorf("%s is a folder", p)
	}
	sums, err := digests(ctx, p, r.Cache, want.Type)
	if err != nil {
		return Result{}, fmt.Errorf("read %s: %w", p, err)
	}
	if !want.None() && sums[want.Type] != want.Hex {
		return Result{}, diag.WithHint(&ChecksumError{u, want.Type, want.Hex, sums[want.Type]},
			"the file was changed or damaged, or the template's checksum belongs to another version of it: correct one of the two")
	}
	return Result{URL: u, Path: p, SHA256: sums["sha256"], Size: st.Size(), Checksum: want}, nil
}

func (r Request) local(ctx context.Context, u, p string, want Checksum) (Result, error) {
	res, err := r.found(ctx, u, p, want)
	if errors.Is(err, os.ErrNotExist) {
		return Result{}, diag.WithHint(fmt.Errorf("there is no file %s: %w", p, os.ErrNotExist),
			"give the path of an existing file; a relative path counts from the folder the command is run in")
	}
	return res, err
}

// resolve looks a checksum up in the file that holds it.
func (r Request) resolve(ctx context.Context, u string) (Checksum, error) {
	if r.Checksum.File == "" {
		return r.Checksum, nil
	}
	local, web, err := split(r.Checksum.File)
	if err != nil {
		return Checksum{}, err
	}
	var body io.ReadCloser
	if web == nil {
		body, err = os.Open(local)
	} else {
		body, err = r.open(ctx, web)
	}
	if err != nil {
		return Checksum{}, diag.WithHint(fmt.Errorf("checksum file: %w", err), "the checksum file must be readable before anything is built; or give the checksum itself")
	}
	defer body.Close()
	c, err := findSum(io.LimitReader(body, 64<<20), name(u))
	if err != nil {
		return Checksum{}, fmt.Errorf("checksum file %s: %w", r.Checksum.File, err)
	}
	return c, nil
}

func (r Request) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("get %s: %s", u.Redacted(), resp.Status)
	}
	return resp.Body, nil
}
