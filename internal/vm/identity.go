package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// An Identity finds one process again without mistaking another for it, also
// after its number was given anew. It is JSON in journals.
type Identity struct {
	PID   int    `json:"pid"`
	Start string `json:"start,omitempty"` // clock ticks from boot to its start, field 22 of /proc/PID/stat (proc(5))
	Boot  string `json:"boot,omitempty"`  // id of the machine's boot
}

// IsZero reports whether no process is meant.
func (id Identity) IsZero() bool { return id.PID == 0 }

// BootID returns a text that is the same until this machine starts anew, ""
// where that cannot be told.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func identify(pid int) Identity { return Identity{PID: pid, Start: startTime(pid), Boot: BootID()} }

// startTime returns "" when there is no such process, or it is a zombie.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the name in brackets, which may hold anything.
	i := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// Running reports whether the process still runs.
func (id Identity) Running() bool {
	return !id.IsZero() && id.Start != "" && id.Boot == BootID() && startTime(id.PID) == id.Start
}

// FindToken returns the processes of this machine that have token in one of
// their arguments, this process excepted.
func FindToken(token string) ([]Identity, error) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []Identity
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(line, []byte(token)) {
			continue
		}
		if id := identify(pid); id.Start != "" {
			found = append(found, id)
		}
	}
	return found, nil
}

// End ends what a process that is gone had started: the process id (may be
// zero) and whatever carries token in its arguments. socket, when not "", is
// asked to quit by QMP first. Nothing is signalled that does not carry token.
// It succeeds when there is nothing to end; killed says whether SIGKILL was
// needed.
func End(ctx context.Context, id Identity, token, socket string) (killed bool, err error) {
	find := func() []Identity {
		found, ferr := FindToken(token)
		if ferr != nil {
			err = ferr
		}
		return found
	}
	procs := find()
	if err != nil || len(procs) == 0 {
		if err == nil && id.Running() {
			err = fmt.Errorf("process %d was started by this run but does not carry its mark %s: it is left alone", id.PID, token)
		}
		return false, err
	}
	quit(ctx, socket, procs)
	for _, sig := range []syscall.Signal{0, syscall.SIGTERM, syscall.SIGKILL} {
		for _, p := range procs {
			if sig != 0 && p.Running() {
				killed = killed || sig == syscall.SIGKILL
				_ = syscall.Kill(p.PID, sig) // it may have ended meanwhile
			}
		}
		wctx, stop := context.WithTimeout(ctx, killTime/2)
		werr := poll.Until(wctx, poll.Backoff{First: 20 * time.Millisecond}, func(context.Context) (bool, error) {
			for _, p := range procs {
				if p.Running() {
					return false, nil
				}
			}
			return true, nil
		})
		stop()
		if werr == nil {
			return killed, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return killed, cause
		}
	}
	return killed, errors.New("a process of this run does not end after SIGKILL")
}

// quit asks politely, QMP where there is a socket.
func quit(ctx context.Context, socket string, procs []Identity) {
	ctx, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	if socket != "" {
		if c, err := qmp.Dial(ctx, socket, nil); err == nil {
			_ = c.Do(ctx, "quit", nil, nil) // signals follow
			_ = c.Close()
			return
		}
	}
	for _, p := range procs {
		if p.Running() {
			_ = syscall.Kill(p.PID, syscall.SIGTERM)
		}
	}
}
