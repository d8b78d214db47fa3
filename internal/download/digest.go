package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

// record remembers the checksums of a file as long as nothing touched it.
type record struct {
	Stat string            `json:"stat"`
	Sums map[string]string `json:"sums"`
}

// settle is how old a change must be before a file's times are believed to
// show the next one.
const settle = 2 * time.Second

// digests returns the file's SHA-256 and its checksum of type typ ("" for no
// other). The answer is remembered in the folder cache under the file's
// identity, size and times of change, the last of which no ordinary program can set.
func digests(ctx context.Context, path, cache, typ string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, changed, err := fingerprint(f)
	if err != nil {
		return nil, err
	}
	keep := digestPath(path, cache)
	var rec record
	if js, err := os.ReadFile(keep); keep != "" && err == nil {
		if json.Unmarshal(js, &rec) != nil || rec.Stat != stat {
			rec = record{}
		}
	}
	hashes := map[string]hash.Hash{}
	for _, t := range []string{"sha256", typ} {
		if h, ok := newHash(t); ok && rec.Sums[t] == "" {
			hashes[t] = h
		}
	}
	if len(hashes) == 0 {
		return rec.Sums, nil
	}
	ws := make([]io.Writer, 0, len(hashes))
	for _, h := range hashes {
		ws = append(ws, h)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(ws...)}, ctxReader{ctx, f}, make([]byte, 1<<20)); err != nil {
		return nil, err
	}
	sums := maps.Clone(rec.Sums)
	if sums == nil {
		sums = map[string]string{}
	}
	for t, h := range hashes {
		sums[t] = hex.EncodeToString(h.Sum(nil))
	}
	after, _, err := fingerprint(f)
	if err != nil {
		return nil, err
	}
	if keep != "" && after == stat && time.Since(changed) > settle {
		if js, err := json.Marshal(record{stat, sums}); err == nil && os.MkdirAll(cache, 0o755) == nil {
			_ = atomicfile.Write(keep, js, 0o644) // without it the file is read again
		}
	}
	return sums, nil
}

func digestPath(path, cache string) string {
	abs, err := filepath.Abs(path)
	if cache == "" || err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(cache, "digest-"+hex.EncodeToString(sum[:10])+".json")
}

func fingerprint(f *os.File) (text string, changed time.Time, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", time.Time{}, err
	}
	changed = time.Unix(st.Ctim.Unix())
	return fmt.Sprintf("%d %d %d %d %d", st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()), changed, nil
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Digest returns the SHA-256 of the file at path, remembered in the folder
// cache ("" for not at all).
func Digest(ctx context.Context, path, cache string) (string, error) {
	sums, err := digests(ctx, path, cache, "")
	return sums["sha256"], err
}

// lock waits until no other process holds the file at path, which is made and
// left there.
func lock(ctx context.Context, path string, out event.Sink) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	told := false
	err = poll.Until(ctx, poll.Backoff{}, func(context.Context) (bool, error) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return true, nil
		case unix.EWOULDBLOCK, unix.EINTR:
			if !told {
				out.Emit(event.Say{Text: "Waiting for another download of the same file"})
				told = true
			}
			return false, nil
		default:
			return false, fmt.Errorf("lock %s: %w", path, err)
		}
	})
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
