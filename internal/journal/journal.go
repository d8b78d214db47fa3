// Package journal is the append-only log of one run: what is not in it does
// not exist, what is in it can be found again.
//
// A journal is the file "journal" in the run directory: one record a line,
//
//	<crc32c of the JSON, 8 hex digits> <JSON>\n
//
// each synced to the disk before [Journal.Append] returns. The first record is
// of kind [KindRun] and names the format and the version of Ingot that wrote
// it. Reading drops a torn last line (the write a crash cut off); any other
// line that does not match its checksum is refused, as is a format that this
// version does not know. No secret is ever in it.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
)

// Format is the version of the record format written here.
const Format = 1

// FileName is the journal's name in a run directory.
const FileName = "journal"

// Kind says what a record records. Values are never given a new meaning.
type Kind string

// The kinds of record.
const (
	KindRun       Kind = "run"       // first record; Data is a Header
	KindBegin     Kind = "begin"     // Step is about to be done
	KindState     Kind = "state"     // Data is the builder's state after what has been done so far
	KindDone      Kind = "done"      // Step was done
	KindUndo      Kind = "undo"      // Step was undone, nothing of it is left
	KindSealed    Kind = "sealed"    // Data is the artifact; the build never boots again
	KindProvision Kind = "provision" // Step, a provisioner, is about to touch the guest
	KindGuest     Kind = "guest"     // Data is what is known of the guest, without its secrets
	KindRegions   Kind = "regions"   // Data is the list of regions in which copies of the sealed image are wanted
	KindCopy      Kind = "copy"      // Data is the builder's state of the copy to the region Step
	KindCopied    Kind = "copied"    // Data is the finished copy in the region Step
	KindCollected Kind = "collected" // every copy is made; Data is the artifact with all of them
	KindProcessed Kind = "processed" // Step, a post-processor, made Data
	KindRestart   Kind = "restart"   // everything recorded of the build before is undone; it begins anew
	KindEnded     Kind = "ended"     // the build is over until a resume; Data is an Ending
	KindPlace     Kind = "place"     // Data says where the build works, for whoever discards what it made
	KindAbandoned Kind = "abandoned" // nothing is left of the build but Data, an Ending's artifacts; it is never resumed
)

// A Header is the data of the first record.
type Header struct {
	Format  int       `json:"format"`
	Version string    `json:"version"` // of the Ingot that wrote the journal
	Run     string    `json:"run"`     // run id
	Started time.Time `json:"started"`
	Builds  []string  `json:"builds"`         // full names
	Call    *Call     `json:"call,omitempty"` // nil: the run cannot be resumed
}

// A Call is the command line that made a run, as far as another process needs
// it to go on. Values of sensitive variables are not in it.
type Call struct {
	Cwd        string            `json:"cwd"`      // where relative paths begin
	Template   string            `json:"template"` // as given
	ConfigType string            `json:"config_type,omitempty"`
	Vars       []string          `json:"vars,omitempty"`      // "name=value" of -var
	Env        map[string]string `json:"env,omitempty"`       // values of variables from the environment, by the variable's name
	Withheld   []string          `json:"withheld,omitempty"`  // variables whose value was given and is a secret: to be given again
	VarFiles   []string          `json:"var_files,omitempty"` // as given
	Only       []string          `json:"only,omitempty"`
	Except     []string          `json:"except,omitempty"`
	OnError    string            `json:"on_error,omitempty"`
	Parallel   int               `json:"parallel,omitempty"`
	Force      bool              `json:"force,omitempty"`
	Local      bool              `json:"local,omitempty"` // the clouds are this machine's own
	Now        time.Time         `json:"now"`             // what the template was told the time is

	Outputs       string `json:"outputs,omitempty"` // file for them, as given
	OutputSecrets bool   `json:"output_secrets,omitempty"`

	Files  map[string]string `json:"files,omitempty"`  // "sha256:<hex>" of the template's files, by name
	Values map[string]string `json:"values,omitempty"` // the same of the variables' values, secrets left out
}

// An Ending is the data of a [KindEnded] record.
type Ending struct {
	Error     string         `json:"error,omitempty"`     // "" when the build succeeded
	Left      bool           `json:"left,omitempty"`      // things were left on purpose or could not be removed
	Until     *time.Time     `json:"until,omitempty"`     // until when they are to be left; nil: as soon as somebody can they may go
	Artifacts []artifact.Set `json:"artifacts,omitempty"` // what there is
}

// A Record is one entry.
type Record struct {
	Seq   int64           `json:"seq"`
	Time  time.Time       `json:"time"`
	Kind  Kind            `json:"kind"`
	Build string          `json:"build,omitempty"` // full name
	Step  string          `json:"step,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// A CorruptError says that a journal cannot be trusted.
type CorruptError struct {
	Path   string
	Line   int
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal %s, line %d: %s", e.Path, e.Line, e.Reason)
}

// A FormatError says that another version of Ingot wrote the journal.
type FormatError struct {
	Path    string
	Format  int
	Version string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("journal %s has format %d, written by Ingot %s; this version reads format %d", e.Path, e.Format, e.Version, Format)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Journal is open for writing and held by this process. Its methods are safe
// for concurrent use.
type Journal struct {
	mu   sync.Mutex
	f    *os.File
	lock *lock
	seq  int64
	now  func() time.Time
	err  error // a failed append: the file's end is unknown, nothing more is written
}

// Create makes dir, which must not hold a journal, takes its lock and writes
// the first record.
func Create(dir string, now func() time.Time, h Header) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	l, err := acquire(dir, now())
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), l.release())
	}
	j := &Journal{f: f, lock: l, now: now}
	h.Format = Format
	data, err := json.Marshal(h)
	if err == nil {
		err = j.Append(Record{Kind: KindRun, Data: data})
	}
	if err == nil {
		err = atomicfile.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// Open takes the lock of the journal in dir, cuts off a torn last line and
// returns its records, ready to be appended to.
func Open(dir string, now func() time.Time) (*Journal, []Record, error) {
	l, err := acquire(dir, now())
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, FileName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("journal: %w", err), l.release())
	}
	_, recs, whole, err := parse(path, raw)
	if err != nil {
		return nil, nil, errors.Join(err, l.release())
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil && whole < len(raw) {
		if err = f.Truncate(int64(whole)); err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("journal: %w", err), l.release())
	}
	return &Journal{f: f, lock: l, now: now, seq: recs[len(recs)-1].Seq}, recs, nil
}

// Append writes r durably. Seq and Time are set here. After an error the
// journal takes no more records: what cannot be journaled must not be done.
func (j *Journal) Append(r Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	r.Seq, r.Time = j.seq+1, j.now().UTC()
	line, err := encode(r)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err = j.f.Write(line); err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		j.err = fmt.Errorf("journal: %w", err)
		return j.err
	}
	j.seq++
	return nil
}

// Close gives the lock back. It may be called twice.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.f.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	if j.err == nil {
		j.err = fmt.Errorf("journal: %w", fs.ErrClosed)
	}
	return errors.Join(err, j.lock.release())
}

// Read returns the header and the records of the journal in dir without taking
// its lock; another process may be writing it.
func Read(dir string) (Header, []Record, error) {
	path := filepath.Join(dir, FileName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return Header{}, nil, fmt.Errorf("journal: %w", err)
	}
	h, recs, _, err := parse(path, raw)
	return h, recs, err
}

func encode(r Record) ([]byte, error) {
	js, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(js, castagnoli), js), nil
}

// parse returns the records and the length of the whole lines.
func parse(path string, raw []byte) (h Header, recs []Record, whole int, err error) {
	for n := 1; whole < len(raw); n++ {
		end := bytes.IndexByte(raw[whole:], '\n')
		if end < 0 {
			break // torn: the sync of this line never returned
		}
		r, reason := decode(raw[whole : whole+end])
		if reason != "" {
			return h, nil, 0, &CorruptError{path, n, reason}
		}
		if r.Seq != int64(n) {
			return h, nil, 0, &CorruptError{path, n, fmt.Sprintf("record %d stands where %d belongs", r.Seq, n)}
		}
		if n == 1 {
			if r.Kind != KindRun || json.Unmarshal(r.Data, &h) != nil {
				return h, nil, 0, &CorruptError{path, n, "does not begin with a run record"}
			}
			if h.Format != Format {
				return h, nil, 0, &FormatError{path, h.Format, h.Version}
			}
		}
		recs = append(recs, r)
		whole += end + 1
	}
	if len(recs) == 0 {
		return h, nil, 0, &CorruptError{path, 1, "is empty"}
	}
	return h, recs, whole, nil
}

func decode(line []byte) (r Record, reason string) {
	if len(line) < 10 || line[8] != ' ' {
		return r, "is not a record"
	}
	js := line[9:]
	if fmt.Sprintf("%08x", crc32.Checksum(js, castagnoli)) != string(line[:8]) {
		return r, "does not match its checksum: the file was changed or the disk is faulty"
	}
	if err := json.Unmarshal(js, &r); err != nil {
		return r, "is not a record: " + err.Error()
	}
	return r, ""
}
