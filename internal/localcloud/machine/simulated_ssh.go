package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"
)

// guestCommands are programs of the guest: what would change the machine under
// it. $INGOT_GUEST/control is the pipe through which the machine is asked.
var guestCommands = map[string]string{
	"sudo": `#!/bin/sh
# sudo that changes no user.
while [ $# -gt 0 ]; do
	case $1 in
	--) shift; break ;;
	-i | -s | --login | --shell) shell=yes; shift ;;
	-u | -g | -p | -h | -C | -r | -t | --user | --group | --prompt) shift 2 ;;
	-S | --stdin) shift ;;
	-*) shift ;;
	[A-Za-z_]*=*) export "$1"; shift ;;
	*) break ;;
	esac
done
if [ $# -eq 0 ]; then
	[ -z "${shell:-}" ] || exec /bin/sh
	exit 0
fi
exec "$@"
`,
	"poweroff": "#!/bin/sh\necho halt >\"$INGOT_GUEST/control\"\n",
	"halt":     "#!/bin/sh\necho halt >\"$INGOT_GUEST/control\"\n",
	"reboot":   "#!/bin/sh\necho reboot >\"$INGOT_GUEST/control\"\n",
	"shutdown": "#!/bin/sh\nwhat=halt\nfor a; do case $a in -r | --reboot) what=reboot ;; -c) exit 0 ;; esac; done\necho $what >\"$INGOT_GUEST/control\"\n",
	"systemctl": `#!/bin/sh
# Of services there are only the timers of systemd-run.
for a; do
	case $a in
	poweroff | halt) exec poweroff ;;
	reboot) exec reboot ;;
	*.timer) [ "$1" != stop ] || exec rm "$INGOT_GUEST/timers/${a%.timer}" ;;
	esac
done
echo 'a simulated machine has no services' >&2
exit 1
`,
	// Without this one it would be the host's, and power the host off. A timer
	// ends with its file, and with the boot.
	"systemd-run": `#!/bin/sh
while :; do
	case ${1:-} in
	--unit=*) unit=${1#*=} ;;
	--on-active=*s) left=${1#*=} left=${left%s} ;;
	--*) ;;
	*) break ;;
	esac
	shift
done
if [ $# -eq 0 ] || [ -z "${unit:-}" ] || [ -z "${left:-}" ]; then
	echo 'a simulated machine knows systemd-run --unit=NAME --on-active=Ns COMMAND' >&2
	exit 1
fi
mkdir -p "$INGOT_GUEST/timers"
echo "$*" >"$INGOT_GUEST/timers/$unit"
(
	while [ "$left" -gt 0 ]; do
		sleep 1
		left=$((left - 1))
		[ -e "$INGOT_GUEST/timers/$unit" ] || exit 0
	done
	rm "$INGOT_GUEST/timers/$unit" 2>/dev/null && "$@"
) </dev/null >/dev/null 2>&1 &
`,
}

// openControl makes the pipe at path, where guestCommands write.
func openControl(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	// For reading and writing: it has no end then, whoever closes it.
	return os.OpenFile(path, os.O_RDWR, 0)
}

// obey does what the guest's commands ask for until the machine ends.
func (m *simulation) obey() {
	in := bufio.NewScanner(m.pipe)
	for in.Scan() {
		if what := in.Text(); what == "halt" || what == "reboot" {
			_ = m.ask(what) // an ended machine closes the pipe
		}
	}
}

// accept serves SSH until ln is closed.
func (m *simulation) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		if m.ended {
			m.mu.Unlock()
			_ = conn.Close()
			return
		}
		m.conns[conn] = true
		boot := m.boot
		m.tasks.Go(func() {
			m.serve(conn, boot)
			_ = conn.Close()
			m.mu.Lock()
			delete(m.conns, conn)
			m.mu.Unlock()
		})
		m.mu.Unlock()
	}
}

func (m *simulation) serve(conn net.Conn, boot int) {
	c, chans, reqs, err := gossh.NewServerConn(conn, m.config)
	if err != nil {
		return
	}
	go gossh.DiscardRequests(reqs) // ends with the connection
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for nc := range chans {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(gossh.UnknownChannelType, "only sessions")
			continue
		}
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		tasks.Go(func() { m.session(c.User(), ch, reqs, boot) })
	}
}

// session serves one session: variables, then one command, shell or SFTP.
func (m *simulation) session(user string, ch gossh.Channel, reqs <-chan *gossh.Request, boot int) {
	defer ch.Close() //nolint:errcheck // the client may be gone
	env := m.environment(user)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	var group atomic.Int64 // of the running command, 0 for none
	begun := false
	begin := func(req *gossh.Request, do func()) {
		_ = req.Reply(!begun, nil)
		if !begun {
			begun = true
			tasks.Go(func() { do(); _ = ch.Close() })
		}
	}
	for req := range reqs {
		switch req.Type {
		case "env":
			var v struct{ Name, Value string }
			ok := !begun && gossh.Unmarshal(req.Payload, &v) == nil && v.Name != "" && v.Name != "PATH" && v.Name != "HOME"
			if ok {
				env = append(env, v.Name+"="+v.Value)
			}
			_ = req.Reply(ok, nil)
		case "pty-req", "window-change":
			_ = req.Reply(true, nil) // output is the same without a terminal
		case "exec", "shell":
			var line struct{ Text string }
			args := []string{}
			if req.Type == "exec" {
				if gossh.Unmarshal(req.Payload, &line) != nil {
					_ = req.Reply(false, nil)
					continue
				}
				args = []string{"-c", line.Text}
			}
			cmd := m.command(args, env)
			begin(req, func() { m.execute(cmd, ch, boot, &group) })
		case "subsystem":
			var name struct{ Text string }
			if gossh.Unmarshal(req.Payload, &name) != nil || name.Text != "sftp" {
				_ = req.Reply(false, nil)
				continue
			}
			begin(req, func() { m.files(ch) })
		case "signal":
			var name struct{ Text string }
			_ = gossh.Unmarshal(req.Payload, &name) // an unknown name does nothing
			if sig, ok := signals[name.Text]; ok && group.Load() != 0 {
				_ = syscall.Kill(-int(group.Load()), sig) // it may have ended
			}
		default:
			_ = req.Reply(false, nil)
		}
	}
}

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
}

// killGroup ends a process group.
func killGroup(group int) { _ = syscall.Kill(-group, syscall.SIGKILL) } // it may have ended

// outputDelay is how long the output of a command is waited for that left
// another process behind, which may have left the command's process group.
const outputDelay = 30 * time.Second

// environment is what a login has. Nothing of this process's own gets in.
func (m *simulation) environment(user string) []string {
	return []string{
		"PATH=" + filepath.Join(m.home, "bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + m.home, "TMPDIR=" + m.home, "USER=" + user, "LOGNAME=" + user, "SHELL=/bin/sh", "LANG=C.UTF-8",
		"INGOT_GUEST=" + m.home,
	}
}

func (m *simulation) command(args, env []string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", args...) //nolint:noctx // ends with the machine
	cmd.Dir, cmd.Env = m.home, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputDelay
	return cmd
}

// execute runs a command on a session and tells how it ended.
func (m *simulation) execute(cmd *exec.Cmd, ch gossh.Channel, boot int, group *atomic.Int64) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	m.mu.Lock()
	if m.ended || m.boot != boot {
		m.mu.Unlock()
		_ = in.Close()
		return
	}
	if err = cmd.Start(); err == nil {
		group.Store(int64(cmd.Process.Pid))
		m.groups[cmd.Process.Pid] = true
	}
	m.mu.Unlock()
	if err != nil {
		_ = in.Close()
		_, _ = fmt.Fprintln(ch.Stderr(), err)
		_, _ = ch.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{127}))
		return
	}
	go func() { // ends with the channel, which is closed after the command
		_, _ = io.Copy(in, ch)
		_ = in.Close()
	}()
	err = cmd.Wait()
	group.Store(0)
	m.mu.Lock()
	delete(m.groups, cmd.Process.Pid)
	m.mu.Unlock()
	_ = ch.CloseWrite()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			for name, sig := range signals {
				if sig == ws.Signal() {
					_, _ = ch.SendRequest("exit-signal", false, gossh.Marshal(struct {
						Name       string
						Core       bool
						Text, Lang string
					}{name, ws.CoreDump(), "", ""}))
					return
				}
			}
		}
	}
	_, _ = ch.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{uint32(max(cmd.ProcessState.ExitCode(), 0))})) //nolint:gosec // a byte
}

// files serves SFTP; relative names are in the guest's folder.
func (m *simulation) files(ch gossh.Channel) {
	srv, err := sftp.NewServer(ch, sftp.WithServerWorkingDirectory(m.home))
	if err != nil {
		return
	}
	_ = srv.Serve() // until the client ends it
	_ = srv.Close()
	_, _ = ch.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{0}))
}
