package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

// tries bounds how often a transfer that made no progress is begun again.
const tries = 5

// stall bounds how long a transfer may stand still.
const stall = 2 * time.Minute

// version is what a server says about which content it has.
type version struct {
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"`
}

func (v version) header() string {
	if v.ETag != "" {
		return v.ETag
	}
	return v.Modified
}

// statusError is an answer other than success.
type statusError struct {
	url    string
	status string
	code   int
}

func (e *statusError) Error() string { return fmt.Sprintf("get %s: %s", e.url, e.status) }

// temporary reports whether asking again may help.
func (e *statusError) temporary() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}

// get brings u to dst, which appears only when it is whole and matches. A
// transfer that breaks is continued where the server can do that. Without a
// checksum what is there is kept when the server says that it has not changed.
func (r Request) get(ctx context.Context, u *url.URL, dst string, want Checksum, out event.Sink) (fetched bool, err error) {
	part := dst + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return false, fmt.Errorf("download: %w", err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(part) // gone after the rename
	}()
	t := &transfer{r: r, url: u, f: f, out: out, task: "download " + path.Base(u.Path)}
	if _, err := os.Stat(dst); err == nil && want.None() {
		t.kept = readVersion(dst)
	}
	for fails := 0; ; {
		before := t.have
		err := t.round(ctx)
		if err == nil {
			break
		}
		if cause := context.Cause(ctx); cause != nil {
			return false, cause
		}
		if errors.Is(err, errUnchanged) {
			return false, nil
		}
		var se *statusError
		if errors.As(err, &se) && !se.temporary() {
			return false, diag.WithHint(err, "the server does not have it or does not give it: correct the address")
		}
		var pe *os.PathError
		if errors.As(err, &pe) {
			return false, diag.WithHint(fmt.Errorf("download: %w", err), "make room in %s", filepath.Dir(dst))
		}
		if fails++; t.have > before {
			fails = 1
		}
		if fails >= tries {
			return false, diag.WithHint(fmt.Errorf("download %s: %w", u.Redacted(), err), "check the network and the address, then run again")
		}
		out.Emit(event.Detail{Text: fmt.Sprintf("download %s: %v; trying again", u.Redacted(), err)})
		if err := poll.Sleep(ctx, time.Duration(fails)*time.Second); err != nil {
			return false, err
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("download: %w", err)
	}
	if _, err := r.found(ctx, u.Redacted(), part, want); err != nil {
		_ = os.Remove(digestPath(part, r.Cache))
		return false, err
	}
	if err := os.Rename(part, dst); err != nil {
		return false, fmt.Errorf("download: %w", err)
	}
	_ = os.Remove(digestPath(part, r.Cache))
	writeVersion(dst, t.version)
	return true, atomicfile.SyncDir(filepath.Dir(dst))
}

var errUnchanged = errors.New("not changed")

type transfer struct {
	r       Request
	url     *url.URL
	f       *os.File
	out     event.Sink
	task    string
	have    int64
	version version
	kept    version
}

// round makes one request and reads as much as comes.
func (t *transfer) round(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return err
	}
	if t.have > 0 && t.version.header() != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.have))
		req.Header.Set("If-Range", t.version.header())
	} else if t.kept.ETag != "" {
		req.Header.Set("If-None-Match", t.kept.ETag)
	} else if t.kept.Modified != "" {
		req.Header.Set("If-Modified-Since", t.kept.Modified)
	}
	resp, err := t.r.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return errUnchanged
	case http.StatusPartialContent:
	case http.StatusOK:
		t.have = 0
		t.version = version{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}
		if err := t.f.Truncate(0); err != nil {
			return err
		}
	default:
		return &statusError{t.url.Redacted(), resp.Status, resp.StatusCode}
	}
	total := int64(0)
	if resp.ContentLength > 0 {
		total = t.have + resp.ContentLength
	}
	if _, err := t.f.Seek(t.have, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for {
		n, rerr := resp.Body.Read(buf)
		if n > 0 {
			watch.Reset(stall)
			if _, err := t.f.Write(buf[:n]); err != nil {
				return err
			}
			t.have += int64(n)
			t.out.Emit(event.Progress{Task: t.task, Done: t.have, Total: total, Unit: "B"})
		}
		switch {
		case errors.Is(rerr, io.EOF):
			return nil // a body shorter than announced ends in ErrUnexpectedEOF
		case rerr != nil:
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return rerr
		}
	}
}

func readVersion(dst string) version {
	var v version
	if js, err := os.ReadFile(dst + ".version"); err == nil {
		_ = json.Unmarshal(js, &v) // an unreadable one asks for everything
	}
	return v
}

func writeVersion(dst string, v version) {
	if js, err := json.Marshal(v); err == nil && v.header() != "" {
		_ = atomicfile.Write(dst+".version", js, 0o644) // without it the next run downloads again
	} else {
		_ = os.Remove(dst + ".version")
	}
}
