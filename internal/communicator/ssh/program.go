package ssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/ingot-build/ingot/internal/communicator"
)

// Our own programs for the guest's /bin/sh. Each is one line in single quotes
// with no ', !, backslash or line end in it, so that every login shell passes
// it on unchanged, and each gets its parameters as lines of its standard
// input, so that nothing needs quoting and nothing secret is in an argument
// list. The first line is a token the guest cannot guess beforehand. The
// program says "TOKEN ok" on its standard error once it has begun with what is
// asked of it; before that, whatever start-up files print is not mistaken for
// its output, and a guest without a shell is told from a command that failed.
const (
	// expand is what a shell would do to a leading ~/.
	expand = `case $p in "~/"*) p=$HOME/${p#"~/"};; esac; `

	putProgram = `umask 077; IFS= read -r t; IFS= read -r m; IFS= read -r p; ` + expand +
		`echo "$t ok" >&2; cat >"$p" && chmod "$m" "$p"`

	getProgram = `IFS= read -r t; IFS= read -r p; ` + expand +
		`echo "$t ok" >&2; echo "$t"; cat <"$p" && echo "$t"`

	// A first line that is not empty is the process group to end before.
	removeProgram = `IFS= read -r t; echo "$t ok" >&2; IFS= read -r k; ` +
		`[ -z "$k" ] || kill -TERM -"$k" 2>/dev/null || kill -TERM "$k" 2>/dev/null; while IFS= read -r p; do ` + expand + `rm -f "$p"; done`

	// The script's files follow their sizes; head takes them from the stream.
	// A head that reads ahead swallows the token behind the file, and then we
	// put the files one by one instead.
	scriptProgram = `u=$(umask); umask 077; IFS= read -r t; IFS= read -r k; IFS= read -r c; IFS= read -r l; ` +
		`n=$(echo; echo .); n=${n%.}; while [ "$c" -gt 1 ]; do IFS= read -r x; l=$l$n$x; c=$((c-1)); done; ` +
		`bad() { echo "$t $1" >&2; rm -f "$p"; exit 97; }; ` +
		`while IFS= read -r s && [ "$s" -ge 0 ]; do IFS= read -r m; IFS= read -r p; ` + expand +
		`if [ "$s" -gt 0 ]; then head -c "$s" >"$p" || bad put; else cat </dev/null >"$p" || bad put; fi; ` +
		`IFS= read -r e; [ "$e" = "$t" ] || bad head; chmod "$m" "$p" || bad put; set -- "$@" "$p"; done; ` +
		`[ "$s" = -1 ] || bad head; umask "$u"; echo "$t ok $$" >&2; ` +
		`"${SHELL:-/bin/sh}" -c "$l" </dev/null; r=$?; [ "$k" = 1 ] || rm -f "$@"; exit "$r"`

	// GNU tar is told to leave folders that are there as they are, links to
	// folders included. Other tars do not get entries for folders: those are
	// made before.
	putTreeProgram = `IFS= read -r t; IFS= read -r p; ` + expand +
		`mkdir -p "$p" && cd "$p" || { echo "$t put" >&2; exit 1; }; ` +
		`command -v tar >/dev/null && command -v gzip >/dev/null || { echo "$t notar" >&2; exit 1; }; g=; h=$(tar --help 2>&1); ` +
		`case $h in *keep-directory-symlink*no-overwrite-dir*|*no-overwrite-dir*keep-directory-symlink*) g=gnu;; esac; echo "$t ok $g" >&2; ` +
		`if [ -n "$g" ]; then exec tar --no-overwrite-dir --keep-directory-symlink -xzpf -; fi; ` +
		`while IFS= read -r m && [ -n "$m" ]; do IFS= read -r d; [ -d "$d" ] || mkdir -m "$m" "$d" || exit 1; done; exec tar -xzpf -`

	getTreeProgram = `IFS= read -r t; IFS= read -r p; ` + expand +
		`cd "$p" || { echo "$t get" >&2; exit 1; }; command -v tar >/dev/null && command -v gzip >/dev/null || { echo "$t notar" >&2; exit 1; }; ` +
		`echo "$t ok" >&2; echo "$t"; exec tar -czf - .`
)

// errNoShell says that /bin/sh did not run our program.
var errNoShell = errors.New("the guest has no POSIX shell for this")

// A refusal is what a program said in place of "ok".
type refusal struct {
	word string // "put", "get", "head", "notar"
	text string // what it printed before
}

func (e *refusal) Error() string {
	if e.text != "" {
		return e.text
	}
	return "refused: " + e.word
}

// failure is a program that began and failed.
type failure struct {
	text string
	err  error
}

func (e *failure) Error() string {
	if e.text != "" {
		return e.text
	}
	return e.err.Error()
}
func (e *failure) Unwrap() error { return e.err }

// A program is a run of one of the programs.
type program struct {
	text   string
	header func(token string) string                 // parameter lines after the token; nil: none
	body   func(w io.Writer, said chan string) error // the rest of the standard input; nil: none
	stdout io.Writer
	stderr io.Writer         // nil: its text becomes part of the error
	told   func(word string) // told what the program said, on another goroutine; may be nil
	frame  int               // lines of the token on the standard output: 0, 1 before it, or 2 around it
}

// run runs p in the guest. The error is errNoShell (wrapped), *refusal,
// *failure (without a stderr) or one of exec.
func (c *Conn) runProgram(ctx context.Context, p program) error {
	if c.noShell.Load() {
		return errNoShell
	}
	token := newToken()
	var text tail
	var out io.Writer = &text
	if p.stderr != nil {
		out = p.stderr
	}
	said := make(chan string, 1)
	marks := &marker{token: token, w: out, said: said, told: p.told}
	cmd := command{line: "exec /bin/sh -c '" + p.text + "'", stdout: p.stdout, stderr: marks}
	var frame *framer
	if p.frame > 0 {
		frame = &framer{token: token + "\n", w: p.stdout, endless: p.frame == 1}
		cmd.stdout = frame
	}
	cmd.input = func(w io.Writer) error {
		head := token + "\n"
		if p.header != nil {
			head += p.header(token)
		}
		if _, err := io.WriteString(w, head); err != nil || p.body == nil {
			return err
		}
		return p.body(w, said)
	}
	err := c.exec(ctx, cmd)
	marks.end()
	var exit *communicator.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		return err
	case marks.word == "" && c.hasShell.Load():
		return &failure{strings.TrimSpace(marks.noise()), errors.New("the guest's shell did not start")}
	case marks.word == "":
		c.noShell.Store(true)
		return fmt.Errorf("%w: %s", errNoShell, strings.TrimSpace(marks.noise()))
	}
	c.hasShell.Store(true)
	switch {
	case marks.word != "ok" && !strings.HasPrefix(marks.word, "ok "):
		return &refusal{marks.word, strings.TrimSpace(marks.noise())}
	case err != nil && p.stderr == nil:
		return &failure{strings.TrimSpace(text.String()), err}
	case err != nil:
		return err
	case frame != nil && !frame.complete():
		return &communicator.DisconnectError{Err: errors.New("the guest's output is not complete")}
	}
	return nil
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see its documentation
	return "ingot-" + hex.EncodeToString(b[:])
}

// maxNoise is how much is kept of what comes before the token.
const maxNoise = 64 << 10

// A marker looks for the line "TOKEN WORD" in a standard error and passes on
// what follows it; after the word "ok" also what came before it.
type marker struct {
	token string
	w     io.Writer
	said  chan<- string // gets the word; buffered
	told  func(string)  // gets it, too; may be nil

	mu   sync.Mutex
	buf  []byte
	word string // "" until the line was seen
}

func (m *marker) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.word != "" {
		if _, err := m.w.Write(p); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	m.buf = append(m.buf, p...)
	at := bytes.Index(m.buf, []byte(m.token+" "))
	if at < 0 {
		if over := len(m.buf) - maxNoise; over > 0 {
			m.buf = append(m.buf[:0], m.buf[over:]...)
		}
		return len(p), nil
	}
	line := m.buf[at+len(m.token)+1:]
	end := bytes.IndexByte(line, '\n')
	if end < 0 {
		return len(p), nil
	}
	m.word = strings.TrimRight(string(line[:end]), "\r")
	rest := append([]byte(nil), line[end+1:]...)
	m.buf = m.buf[:at]
	m.said <- m.word
	if m.told != nil {
		m.told(m.word)
	}
	if strings.HasPrefix(m.word, "ok") && len(m.buf) > 0 {
		if _, err := m.w.Write(m.buf); err != nil {
			return 0, err
		}
	}
	if len(rest) > 0 {
		if _, err := m.w.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// end says that nothing more will come.
func (m *marker) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.said)
}

func (m *marker) noise() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.buf)
}

// A framer passes on what is between the first and the last of two lines of
// the token.
type framer struct {
	token   string // with its line end
	w       io.Writer
	endless bool // there is no closing line
	open    bool
	held    []byte // may be the closing line, or part of the opening one
}

func (f *framer) Write(p []byte) (int, error) {
	n := len(p)
	if !f.open {
		f.held = append(f.held, p...)
		at := bytes.Index(f.held, []byte(f.token))
		if at < 0 {
			if over := len(f.held) - len(f.token); over > 0 {
				f.held = append(f.held[:0], f.held[over:]...)
			}
			return n, nil
		}
		f.open = true
		p = f.held[at+len(f.token):]
		f.held = nil
	}
	if f.endless {
		if len(p) == 0 {
			return n, nil
		}
		if _, err := f.w.Write(p); err != nil {
			return 0, err
		}
		return n, nil
	}
	// All but the last bytes can be passed on: first from what was held.
	if over := len(f.held) + len(p) - len(f.token); over > 0 {
		k := min(over, len(f.held))
		if k > 0 {
			if _, err := f.w.Write(f.held[:k]); err != nil {
				return 0, err
			}
			f.held = append(f.held[:0], f.held[k:]...)
		}
		if over -= k; over > 0 {
			if _, err := f.w.Write(p[:over]); err != nil {
				return 0, err
			}
			p = p[over:]
		}
	}
	f.held = append(f.held, p...)
	return n, nil
}

// complete reports whether the closing line was the last thing that came.
func (f *framer) complete() bool { return f.open && (f.endless || string(f.held) == f.token) }

// A tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxNoise; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
