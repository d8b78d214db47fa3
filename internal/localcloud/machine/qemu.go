package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// QEMU runs real machines.
type QEMU struct {
	// Link is the command line that calls [RunLink] with what is appended:
	// this program and its hidden command.
	Link  []string
	Cache string // folder that remembers whether KVM is usable; "" asks each time
}

// startTime bounds how long a machine takes until its control socket answers;
// on a busy host the emulator needs a while.
const startTime = 2 * time.Minute

// cleanTime bounds what is done after a failure.
const cleanTime = 40 * time.Second

// identity is what is journaled of a machine.
type identity struct {
	Driver string      `json:"driver"` // "qemu"
	Token  string      `json:"token"`  // in the arguments of all its processes
	QEMU   vm.Identity `json:"qemu"`
	Ports  portShift   `json:"ports"`
}

func emulator(arch string) (string, error) {
	e, ok := emulators[arch]
	if !ok {
		return "", fmt.Errorf("machines of the architecture %q cannot be run; x86_64 and arm64 can", arch)
	}
	path, err := exec.LookPath(e[0])
	if err != nil {
		return "", diag.WithHint(fmt.Errorf("%s machines need the emulator %s: %w", arch, e[0], err), "apt install %s", e[1])
	}
	return path, nil
}

// Check implements [Driver].
func (q *QEMU) Check(_ context.Context, arch string) error {
	_, err := emulator(arch)
	if _, ierr := exec.LookPath("qemu-img"); ierr != nil {
		err = errors.Join(err, diag.WithHint(ierr, "apt install qemu-utils"))
	}
	return err
}

// Start implements [Driver].
func (q *QEMU) Start(ctx context.Context, s Spec) (_ Process, err error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", s.ID, err)
	}
	binary, err := emulator(s.Arch)
	if err != nil {
		return nil, err
	}
	l := launch{accel: "tcg", token: "ingot-" + s.ID + "-" + random()}
	switch k, err := vm.ProbeKVM(ctx, binary, q.Cache); {
	case err != nil:
		return nil, err
	case k.Usable:
		l.accel = "kvm"
	}
	if l.net, err = s.network(); err != nil {
		return nil, err
	}
	if l.firmware, err = s.firmware(); err != nil {
		return nil, err
	}
	p := &process{spec: s, id: identity{Driver: "qemu", Token: l.token}}
	if p.id.Ports, err = shiftPorts(s.Address, s.Ports); err != nil {
		return nil, err
	}
	for _, name := range []string{qmpSocket, pidFile, tpmSocket, killedFile, screenFile} {
		if err := os.Remove(filepath.Join(s.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := atomicfile.Write(filepath.Join(s.Dir, targetFile), []byte(s.Metadata+"\n"), 0o600); err != nil {
		return nil, err
	}
	args, err := s.args(l)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
			defer stop()
			err = errors.Join(err, p.Kill(cctx))
		}
	}()
	if err := p.launch(ctx, q.Link, binary, args); err != nil {
		return nil, err
	}
	rctx, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	if err := p.ready(rctx); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", s.ID, err)
	}
	if err := p.SetPorts(rctx, s.Ports); err != nil {
		return nil, err
	}
	return p, nil
}

// launch starts the machine's processes.
func (p *process) launch(ctx context.Context, link []string, binary string, args []string) error {
	if len(link) == 0 {
		return errors.New("QEMU.Link names no program")
	}
	log, err := os.OpenFile(filepath.Join(p.spec.Dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if st, err := log.Stat(); err == nil {
		p.logFrom = st.Size()
	}
	card, err := wire()
	if err != nil {
		return err
	}
	defer closeAll(card)
	up, err := wire()
	if err != nil {
		return err
	}
	defer closeAll(up)
	n, err := p.spec.network()
	if err != nil {
		return err
	}
	if p.spec.TPM {
		if err := p.startTPM(ctx, log); err != nil {
			return err
		}
	}
	helper := append(append([]string(nil), link[1:]...), p.id.Token, p.spec.Dir, n.privateIP.String(), n.subnet.String())
	wired, err := p.spawn(log, link[0], helper, card[1], up[1])
	if err != nil {
		return fmt.Errorf("start the network helper: %w", err)
	}
	go func() { _ = wired.Wait() }() // ends with the machine
	cmd, err := p.spawn(log, binary, args, card[0], up[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", binary, err)
	}
	p.done = make(chan struct{})
	found, err := vm.FindToken("id=" + p.id.Token)
	if err != nil {
		return err
	}
	for _, id := range found {
		if id.PID == cmd.Process.Pid {
			p.id.QEMU = id
		}
	}
	go func() {
		_ = cmd.Wait() // how it ended is told by the files it leaves
		close(p.done)
	}()
	return nil
}

// spawn starts a process that outlives this one: in a session of its own,
// without a file of ours but the log and the extra ones. The caller waits for
// it.
func (p *process) spawn(log *os.File, name string, args []string, extra ...*os.File) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...) //nolint:noctx // outlives every context
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = p.spec.Dir, log, log, extra
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

// startTPM starts the TPM's emulator, which ends with QEMU.
func (p *process) startTPM(ctx context.Context, log *os.File) error {
	binary, err := exec.LookPath("swtpm")
	if err != nil {
		return diag.WithHint(fmt.Errorf("a machine with a TPM needs swtpm: %w", err), "apt install swtpm")
	}
	if err := os.MkdirAll(filepath.Join(p.spec.Dir, tpmState), 0o700); err != nil {
		return err
	}
	// The log's name carries the token, by which the process is found.
	cmd, err := p.spawn(log, binary, []string{
		"socket", "--tpm2", "--terminate", "--tpmstate", "dir=" + tpmState,
		"--ctrl", "type=unixio,path=" + tpmSocket, "--flags", "not-need-init",
		"--log", "level=0,prefix=" + p.id.Token,
	})
	if err != nil {
		return fmt.Errorf("start swtpm: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	ctx, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	return poll.Until(ctx, poll.Backoff{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("swtpm ended: %s", p.lastWords())
		default:
		}
		st, err := os.Stat(filepath.Join(p.spec.Dir, tpmSocket))
		return err == nil && st.Mode().Type() == os.ModeSocket, nil
	})
}

// ready waits until the control socket answers.
func (p *process) ready(ctx context.Context) error {
	return poll.Until(ctx, poll.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond}, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, fmt.Errorf("QEMU ended: %s", p.lastWords())
		default:
		}
		err := p.with(ctx, func(*qmp.Client) error { return nil })
		return err == nil, nil
	})
}

// lastWords is what the machine's processes printed since its start.
func (p *process) lastWords() string {
	text, err := os.ReadFile(filepath.Join(p.spec.Dir, logFile))
	if err != nil {
		return err.Error()
	}
	text = text[min(p.logFrom, int64(len(text))):]
	if text = bytes.TrimSpace(text); len(text) > 0 {
		return string(text[max(0, len(text)-2000):])
	}
	return "it printed nothing"
}

// Find implements [Driver].
func (q *QEMU) Find(s Spec, js json.RawMessage) (Process, bool) {
	p := &process{spec: s, found: true}
	if json.Unmarshal(js, &p.id) != nil || p.id.Driver != "qemu" || p.id.Token == "" || !p.id.QEMU.Running() {
		return nil, false
	}
	return p, true
}

// wire returns the two ends of a stream.
func wire() ([2]*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return [2]*os.File{}, fmt.Errorf("socketpair: %w", err)
	}
	return [2]*os.File{os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "wire")}, nil
}

func closeAll(files [2]*os.File) {
	for _, f := range files {
		_ = f.Close() // the children have their own
	}
}

func random() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
