// Package faults makes a local cloud misbehave on demand: throttling, server
// errors, replies that are lost after the effect, slow and stale reads, a
// region that is down.
//
// Rules are given by a test, or lie in a file in the cloud's folder that every
// process serving the cloud reads; their counts are of one process.
package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// A Kind is what a rule does to a call.
type Kind string

// The kinds of fault.
const (
	Throttle Kind = "throttle" // refused with RequestLimitExceeded, no effect
	Fail     Kind = "error"    // refused with Code and Status, no effect
	Lost     Kind = "lost"     // the connection ends after the effect, before the reply
	Broken   Kind = "broken"   // 500 after the effect
	Slow     Kind = "slow"     // Delay passes before the call is served
	Down     Kind = "down"     // the connection ends before the effect
	Stale    Kind = "stale"    // ids are not known yet for Delay after the call that made them
)

// A Rule is one fault. Service, Action and Region are patterns as of
// path.Match; "" is any.
type Rule struct {
	ID          string        `json:"id"`
	Kind        Kind          `json:"kind"`
	Service     string        `json:"service,omitempty"`
	Action      string        `json:"action,omitempty"`
	Region      string        `json:"region,omitempty"`
	Code        string        `json:"code,omitempty"`        // of Fail; default InternalError
	Status      int           `json:"status,omitempty"`      // of Fail; default 500
	Delay       time.Duration `json:"delay,omitempty"`       // of Slow and Stale
	Skip        int           `json:"skip,omitempty"`        // calls that pass first
	Count       int           `json:"count,omitempty"`       // calls that are hit; 0: all
	Probability float64       `json:"probability,omitempty"` // of a hit; 0: certain
}

// Check says what is wrong with a rule.
func (r Rule) Check() error {
	switch r.Kind {
	case Throttle, Fail, Lost, Broken, Down:
	case Slow, Stale:
		if r.Delay <= 0 {
			return fmt.Errorf("fault %q needs a delay", r.Kind)
		}
	default:
		return fmt.Errorf("fault %q is not one of throttle, error, lost, broken, slow, down, stale", r.Kind)
	}
	for _, p := range []string{r.Service, r.Action, r.Region} {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	if r.Probability < 0 || r.Probability > 1 {
		return fmt.Errorf("probability %v is not between 0 and 1", r.Probability)
	}
	return nil
}

// FileName is the name of the rules in a cloud's folder.
const FileName = "faults.json"

// Load reads the rules in a cloud's folder; none when there is no file.
func Load(dir string) ([]Rule, error) {
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var rules []Rule
	if err == nil {
		err = json.Unmarshal(raw, &rules)
	}
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	return rules, nil
}

// Save replaces the rules in a cloud's folder.
func Save(dir string, rules []Rule) error {
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(rules, "", "  ")
	if err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, FileName), append(raw, '\n'), 0o600)
}

// A Call is what a fault is decided on.
type Call struct{ Service, Action, Region, RequestID string }

// Refuse writes a refusal in the form of the call's service.
type Refuse func(w http.ResponseWriter, status int, code, message string)

// An Injector applies rules. Its methods are safe for concurrent use.
type Injector struct {
	dir string

	mu    sync.Mutex
	set   []Rule               // by Set
	file  []Rule               // of the folder
	mtime time.Time            // of the file read last
	calls map[string]int       // that a rule met, by id
	fresh map[string]time.Time // until when an id is not known yet
}

// New returns an injector that also follows the rules in a cloud's folder; ""
// for none.
func New(dir string) *Injector {
	return &Injector{dir: dir, calls: map[string]int{}, fresh: map[string]time.Time{}}
}

// Set replaces the rules of this process and starts their counts anew.
func (i *Injector) Set(rules ...Rule) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := range rules {
		if err := rules[n].Check(); err != nil {
			return err
		}
		if rules[n].ID == "" {
			rules[n].ID = fmt.Sprintf("rule %d", n+1)
		}
		delete(i.calls, rules[n].ID)
	}
	i.set = rules
	return nil
}

// hits returns the rules that hit a call, and counts it.
func (i *Injector) hits(c Call) []Rule {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reload()
	var out []Rule
	for _, r := range append(i.set[:len(i.set):len(i.set)], i.file...) {
		if !match(r.Service, c.Service) || !match(r.Action, c.Action) || !match(r.Region, c.Region) {
			continue
		}
		n := i.calls[r.ID]
		i.calls[r.ID] = n + 1
		if n < r.Skip || r.Count > 0 && n >= r.Skip+r.Count || r.Probability > 0 && rand.Float64() >= r.Probability { //nolint:gosec // not a secret
			continue
		}
		out = append(out, r)
	}
	return out
}

// reload reads the folder's rules again when the file is another one. Rules
// that cannot be read are none: the service goes on.
func (i *Injector) reload() {
	if i.dir == "" {
		return
	}
	var mtime time.Time
	if st, err := os.Stat(filepath.Join(i.dir, FileName)); err == nil {
		mtime = st.ModTime()
	}
	if mtime.Equal(i.mtime) {
		return
	}
	i.mtime = mtime
	i.file, _ = Load(i.dir)
	for n := range i.file {
		delete(i.calls, i.file[n].ID)
	}
}

func match(pattern, s string) bool {
	ok, _ := path.Match(pattern, s) // checked by Check
	return pattern == "" || ok
}

// ids finds the ids of EC2 in text.
var ids = regexp.MustCompile(`\b(?:i|ami|snap|vol|sg|lt|fleet|eni|import-ami|import-snap)-[0-9a-f]{17}\b`)

// Serve serves a call through the rules. params is what the call asks, next
// does it.
func (i *Injector) Serve(w http.ResponseWriter, r *http.Request, c Call, params string, refuse Refuse, next func(http.ResponseWriter)) {
	var after, stale *Rule
	for _, rule := range i.hits(c) {
		switch rule.Kind {
		case Throttle:
			refuse(w, http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
			return
		case Fail:
			refuse(w, either(rule.Status, 500), either(rule.Code, "InternalError"), "An internal error has occurred (a fault asked for).")
			return
		case Down:
			hangUp(w)
			return
		case Slow:
			t := time.NewTimer(rule.Delay)
			select {
			case <-r.Context().Done():
				t.Stop()
				return
			case <-t.C:
			}
		case Lost, Broken:
			after = &rule
		case Stale:
			stale = &rule
		}
	}
	if id := i.unknown(params); id != "" {
		refuse(w, http.StatusBadRequest, notFound(id), fmt.Sprintf("The id '%s' does not exist", id))
		return
	}
	if after == nil && stale == nil {
		next(w)
		return
	}
	reply := &reply{header: http.Header{}, status: http.StatusOK}
	next(reply)
	if stale != nil {
		i.mu.Lock()
		for _, id := range ids.FindAllString(reply.body.String(), -1) {
			if _, known := i.fresh[id]; !known && !strings.Contains(params, id) {
				i.fresh[id] = time.Now().Add(stale.Delay)
			}
		}
		i.mu.Unlock()
	}
	switch {
	case after != nil && after.Kind == Lost:
		hangUp(w)
	case after != nil:
		refuse(w, http.StatusInternalServerError, "InternalError", "An internal error has occurred (after the effect, as asked for).")
	default:
		reply.send(w)
	}
}

// unknown returns an id in params that is not known yet.
func (i *Injector) unknown(params string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.fresh) == 0 {
		return ""
	}
	now := time.Now()
	for _, id := range ids.FindAllString(params, -1) {
		if until, ok := i.fresh[id]; ok && now.Before(until) {
			return id
		}
	}
	return ""
}

// notFound is EC2's code for an id that does not exist.
func notFound(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "i":
		return "InvalidInstanceID.NotFound"
	case "ami":
		return "InvalidAMIID.NotFound"
	case "snap":
		return "InvalidSnapshot.NotFound"
	case "vol":
		return "InvalidVolume.NotFound"
	case "sg":
		return "InvalidGroup.NotFound"
	case "lt":
		return "InvalidLaunchTemplateId.NotFound"
	}
	return "InvalidID"
}

func either[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the server resets the stream
	}
	_ = conn.Close() // it is what was wanted
}

// A reply keeps what was answered.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(status int)      { r.status = status }
func (r *reply) Write(p []byte) (int, error) { return r.body.Write(p) }

func (r *reply) send(w http.ResponseWriter) {
	for k, v := range r.header {
		w.Header()[k] = v
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body.Bytes()) // the client is gone: nobody to tell
}
