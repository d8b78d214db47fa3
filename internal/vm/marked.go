package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Marked process carries a token in one of its arguments.
type Marked struct {
	Identity
	Program string // base name
	Token   string
	Since   time.Time // when it started; zero: not known
}

var tokenText = regexp.MustCompile(`^ingot-[0-9a-f]{24}$`)

// FindMarked returns this user's processes in one of whose arguments markOf
// finds a token, this process excepted. markOf is told the base name of the
// program and the argument, and returns "" for none.
func FindMarked(markOf func(program, arg string) string) ([]Marked, error) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var out []Marked
	for _, name := range names {
		dir := filepath.Dir(name)
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || !own(dir) {
			continue
		}
		line, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		args := bytes.Split(bytes.TrimRight(line, "\x00"), []byte{0})
		program := filepath.Base(string(args[0]))
		for _, a := range args[1:] {
			token := markOf(program, string(a))
			if !tokenText.MatchString(token) {
				continue
			}
			if id := identify(pid); id.Start != "" {
				out = append(out, Marked{id, program, token, id.since()})
			}
			break
		}
	}
	return out, nil
}

// own reports whether the process is of this user.
func own(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// ticks is the unit of times in /proc, USER_HZ: 100 a second on every
// architecture that Linux runs guests on (time(7)).
const ticks = 100

// since is when the process started.
func (id Identity) since() time.Time {
	raw, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}
	}
	up, _, _ := strings.Cut(string(raw), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	start, serr := strconv.ParseInt(id.Start, 10, 64)
	if err != nil || serr != nil {
		return time.Time{}
	}
	age := time.Duration(seconds*float64(time.Second)) - time.Duration(start)*(time.Second/ticks)
	return time.Now().Add(-max(0, age))
}
