package qemu

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/vm"
	"github.com/ingot-build/ingot/internal/vm/media"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// makeMedia writes the floppy disk and the CD that the options ask for.
func (m *machine) makeMedia(_ context.Context, r *builder.Run, _ *state) error {
	for _, medium := range []struct {
		src   media.Source
		name  string
		label string
		write func(dst, label string, s media.Source) error
		path  *string
	}{
		{m.cfg.floppy(), "floppy.img", m.cfg.FloppyLabel, media.Floppy, &m.floppyPath},
		{m.cfg.cd(), "cd.iso", m.cfg.CDLabel, media.ISO, &m.cdPath},
	} {
		if medium.src.Empty() {
			continue
		}
		dst := filepath.Join(r.Dir, medium.name)
		if err := os.RemoveAll(dst); err != nil { // of the step's first try
			return err
		}
		if err := medium.write(dst, medium.label, medium.src); err != nil {
			return err
		}
		*medium.path = dst
	}
	return nil
}

// startTPM starts the software TPM.
func (m *machine) startTPM(ctx context.Context, r *builder.Run, s *state) error {
	if !m.cfg.VTPM {
		return nil
	}
	if err := m.stopTPM(ctx, r, s); err != nil {
		return err
	}
	dir, err := m.socketDir(r)
	if err != nil {
		return err
	}
	store := filepath.Join(r.Dir, "tpm")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return err
	}
	args := []string{
		"socket", "--tpmstate", "dir=" + store, "--ctrl", "type=unixio,path=" + filepath.Join(dir, "tpm.sock"),
		"--pid", "file=" + filepath.Join(r.Dir, tpmMark(r)), "--terminate",
	}
	if !m.cfg.TPM1 {
		args = append(args, "--tpm2")
	}
	m.tpm, err = vm.Start(ctx, vm.Command{Binary: "swtpm", Args: args, Log: filepath.Join(r.Dir, "swtpm.log")})
	if err != nil {
		return err
	}
	s.TPM = m.tpm.Identity()
	if err := r.Save(); err != nil {
		return err
	}
	return m.tpm.Listening(ctx, filepath.Join(dir, "tpm.sock"))
}

func tpmMark(r *builder.Run) string { return r.Token("tpm") + ".pid" }

func (m *machine) stopTPM(ctx context.Context, r *builder.Run, s *state) error {
	var err error
	if m.tpm != nil {
		_, err = m.tpm.Stop(ctx)
		m.tpm = nil
	}
	_, endErr := vm.End(ctx, s.TPM, tpmMark(r), "")
	return errors.Join(err, endErr)
}

// maxSocketPath is the room for a Unix socket's path (sun_path of unix(7), with
// its final zero byte).
const maxSocketPath = 107

// socketDir is the build's folder under a name short enough for sockets.
func (m *machine) socketDir(r *builder.Run) (string, error) {
	if len(r.Dir)+len("/qmp.sock") <= maxSocketPath {
		return r.Dir, nil
	}
	abs, err := filepath.Abs(r.Dir)
	if err != nil {
		return "", err
	}
	link := shortLink(r)
	if to, err := os.Readlink(link); err == nil && to == abs {
		return link, nil
	}
	if err := os.Symlink(abs, link); err != nil {
		return "", diag.WithHint(fmt.Errorf("a short name for the sockets of %s: %w", r.Dir, err),
			"remove it, or give the runs a folder with a shorter name with XDG_STATE_HOME")
	}
	return link, nil
}

func shortLink(r *builder.Run) string { return filepath.Join(os.TempDir(), r.Token("sockets")) }

// nameSockets makes the short name that removeSockets removes.
func (m *machine) nameSockets(_ context.Context, r *builder.Run, _ *state) error {
	_, err := m.socketDir(r)
	return err
}

func (m *machine) removeSockets(_ context.Context, r *builder.Run, _ *state) error {
	if err := os.Remove(shortLink(r)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// startTries bounds how often a start is repeated because another program took
// a port between our look and QEMU's.
const startTries = 20

// startVM starts QEMU and waits until the machine is built.
func (m *machine) startVM(ctx context.Context, r *builder.Run, s *state) error {
	if err := m.stopVM(ctx, r, s); err != nil { // of a first try, or from before a crash
		return err
	}
	s.Halted = false
	l, err := m.launch(ctx, r, s)
	if err != nil {
		return err
	}
	busy := map[int]bool{}
	for try := 1; ; try++ {
		if err := m.choosePorts(ctx, &l, busy); err != nil {
			return err
		}
		m.hostPort = l.hostPort
		err := m.launchOnce(ctx, r, s, l)
		var xe *vm.ExitError
		if err == nil {
			return m.setVNCPassword(ctx)
		}
		if _, serr := m.proc.Stop(context.WithoutCancel(ctx)); serr != nil {
			return errors.Join(err, serr)
		}
		if !errors.As(err, &xe) || !portTaken(xe.Output) || try == startTries {
			return explainStart(err)
		}
		r.Events.Emit(event.Detail{Text: fmt.Sprintf("a port was taken meanwhile, trying others: %v", err)})
		busy[l.hostPort], busy[l.vncPort] = true, true
	}
}

func portTaken(out string) bool {
	return strings.Contains(out, "Address already in use") || strings.Contains(out, "Could not set up host forwarding rule") ||
		strings.Contains(out, "Failed to find an available port")
}

// explainStart adds what to do about QEMU's more frequent refusals.
func explainStart(err error) error {
	text := err.Error()
	for _, k := range [][2]string{
		{"gtk initialization failed", "set headless = true: there is no display to show the machine on"},
		{"does not accept value 'gtk'", "set headless = true, or name a display that this QEMU has"},
		{"requires KVM", "leave cpu_model out, or use cpu_model = \"max\": this machine cannot run guests with KVM"},
		{"Could not access KVM", "leave accelerator out: this machine cannot run guests with KVM"},
		{"cannot set up guest memory", "lower memory, or free some on this machine"},
		{"bridge helper", "allow the bridge in /etc/qemu/bridge.conf"},
	} {
		if strings.Contains(text, k[0]) {
			return diag.WithHint(err, "%s", k[1])
		}
	}
	return diag.WithHint(err, "QEMU did not start: correct the option that its message names")
}

// launch collects what the arguments are made from, ports excepted.
func (m *machine) launch(ctx context.Context, r *builder.Run, s *state) (launch, error) {
	c := &m.cfg
	dir, err := m.socketDir(r)
	if err != nil {
		return launch{}, err
	}
	l := launch{
		work: m.workDir(s), cd: m.cdPath, floppy: m.floppyPath, cpuModel: c.CPUModel,
		token: r.Token("vm"), qmp: filepath.Join(dir, "qmp.sock"), console: filepath.Join(r.Dir, consoleName),
	}
	for _, d := range s.Disks {
		l.disks, l.formats = append(l.disks, d.Name), append(l.formats, d.Format)
	}
	if c.ISOSkipCache {
		l.iso = c.ISOURLs[0]
	} else if !c.DiskImage {
		l.iso = m.medium.Path
	}
	if c.EFIBoot {
		if l.efiCode, _, err = c.findFirmware(); err != nil {
			return launch{}, err
		}
	}
	if c.VTPM {
		l.tpmSocket = filepath.Join(dir, "tpm.sock")
	}
	if c.NetBridge != "" {
		l.mac = macAddress(r)
	}
	if l.accel, err = m.accelerator(ctx, r); err != nil {
		return launch{}, err
	}
	if m.tcgCause != "" && l.cpuModel == "host" {
		l.cpuModel = "max" // "host" exists under KVM only
	}
	l.display = m.display(r)
	l.firmware, err = m.credentials(r)
	return l, err
}

// macAddress is the run's own in the range that QEMU's addresses are in.
func macAddress(r *builder.Run) string {
	t := r.Token("mac")
	raw, _ := hex.DecodeString(t[len(t)-6:]) // a token ends in hex digits
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", raw[0], raw[1], raw[2])
}

// accelerator decides how guest code is run.
func (m *machine) accelerator(ctx context.Context, r *builder.Run) (string, error) {
	c := &m.cfg
	if c.Accelerator != "" && c.Accelerator != "kvm" {
		if c.Accelerator == "none" {
			return "", nil
		}
		return c.Accelerator, nil
	}
	k, err := vm.ProbeKVM(ctx, c.QemuBinary, m.info.Cache)
	switch {
	case err != nil:
		return "", err
	case k.Usable:
		return "kvm", nil
	case c.Accelerator == "kvm":
		return "", diag.WithHint(fmt.Errorf("KVM is not usable: %s", k.Reason), `leave accelerator out, or use "tcg": slower, and works everywhere`)
	}
	m.tcgCause = k.Reason
	r.Say("Running the guest without KVM, which is slower (%s)", k.Reason)
	return "tcg", nil
}

func (m *machine) domainType() string {
	if m.cfg.Accelerator == "kvm" || m.cfg.Accelerator == "" && m.tcgCause == "" {
		return "kvm"
	}
	return "qemu"
}

// display is the value of -display, "" to leave it out.
func (m *machine) display(r *builder.Run) string {
	c := &m.cfg
	switch {
	case c.Headless:
		return ""
	case c.Display != "" && c.Display != "none":
		return c.Display
	case c.UseDefaultDisplay:
		return ""
	case os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "":
		r.Say("There is no display to show the guest on: running it headless (VNC shows it)")
		return ""
	}
	return "gtk"
}

// choosePorts finds free ports. Whether they still are when QEMU wants them
// shows when it starts.
func (m *machine) choosePorts(ctx context.Context, l *launch, busy map[int]bool) error {
	c := &m.cfg
	var err error
	if c.guestPort() != 0 && c.NetBridge == "" {
		if c.SkipNATMapping {
			l.hostPort = c.guestPort()
		} else if l.hostPort, err = freePort(ctx, "", c.HostPortMin, c.HostPortMax, busy); err != nil {
			return diag.WithHint(fmt.Errorf("port for the guest's communicator: %w", err),
				"widen host_port_min and host_port_max, or end what listens there")
		}
	}
	if l.vncPort, err = freePort(ctx, c.VNCBindAddress, c.VNCPortMin, c.VNCPortMax, busy); err != nil {
		return diag.WithHint(fmt.Errorf("port for VNC: %w", err), "widen vnc_port_min and vnc_port_max, or correct vnc_bind_address")
	}
	return nil
}

// freePort returns the first port of the range that can be listened on now.
func freePort(ctx context.Context, addr string, low, high int, busy map[int]bool) (int, error) {
	var lc net.ListenConfig
	var last error
	for p := low; p <= high; p++ {
		if busy[p] {
			continue
		}
		ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(p)))
		if err != nil {
			last = err
			continue
		}
		_ = ln.Close()
		return p, nil
	}
	if last == nil {
		last = errors.New("every port was taken when QEMU wanted it")
	}
	return 0, fmt.Errorf("no port from %d to %d is free: %w", low, high, last)
}

// launchOnce starts QEMU and journals it before anything waits for it.
func (m *machine) launchOnce(ctx context.Context, r *builder.Run, s *state, l launch) error {
	user, err := m.cfg.userArgs(argData{
		HTTPIP: m.httpIP, HTTPPort: m.httpPort(), HTTPDir: m.cfg.HTTPDir, HTTPContent: m.cfg.HTTPContent,
		OutputDir: l.work, Name: m.cfg.VMName, SSHHostPort: l.hostPort,
	})
	if err != nil {
		return err
	}
	args := m.cfg.args(l, user)
	r.Events.Emit(event.Detail{Text: m.cfg.QemuBinary + " " + strings.Join(args, " ")})
	_ = os.Remove(l.qmp) // of a QEMU that has ended
	full := make(chan string, 1)
	m.proc, err = vm.Start(ctx, vm.Command{
		Binary: m.cfg.QemuBinary, Args: args, Log: filepath.Join(r.Dir, qemuLogName), QMP: l.qmp,
		Events: func(e qmp.Event) { ioError(e, full) },
	})
	if err != nil {
		return err
	}
	go m.stopWhenFull(ctx, r, m.proc, full)
	s.VM = m.proc.Identity()
	if err := r.Save(); err != nil {
		return err
	}
	return m.proc.Ready(ctx)
}

// ioError tells full of a disk error for which QEMU has stopped the guest.
func ioError(e qmp.Event, full chan<- string) {
	var d struct {
		Device  string `json:"device"`
		Action  string `json:"action"`
		NoSpace bool   `json:"nospace"`
		Reason  string `json:"reason"`
	}
	if e.Name != "BLOCK_IO_ERROR" || json.Unmarshal(e.Data, &d) != nil || d.Action != "stop" {
		return
	}
	text := d.Reason
	if d.NoSpace {
		text = "no space left on the disk that the image is on"
	}
	select {
	case full <- text:
	default: // the first one counts
	}
}

// stopWhenFull ends a machine that QEMU has stopped for a disk error: it would
// stand still for ever.
func (m *machine) stopWhenFull(ctx context.Context, r *builder.Run, p *vm.Process, full <-chan string) {
	select {
	case <-p.Done():
	case why := <-full:
		m.mu.Lock()
		m.stopped = diag.WithHint(fmt.Errorf("the guest was stopped: %s", why), "make room on the disk of output_directory and build again")
		m.mu.Unlock()
		r.Events.Emit(event.Warn{Text: "The guest cannot write to its disk and is stopped: " + why})
		_, _ = p.Stop(context.WithoutCancel(ctx)) // what it leaves is reported by stopVM
	}
}

// dead is why the machine no longer runs, nil while it does.
func (m *machine) dead() error {
	if m.proc == nil {
		return errors.New("the guest is not running")
	}
	if m.proc.Alive() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped != nil {
		return m.stopped
	}
	if m.proc.Clean() == nil {
		return errors.New("the guest has shut itself down")
	}
	return &vm.ExitError{Binary: m.cfg.QemuBinary, Exit: m.proc.Exit()}
}

// stopVM ends QEMU, whoever started it.
func (m *machine) stopVM(ctx context.Context, r *builder.Run, s *state) error {
	var errs []error
	killed := false
	if m.conn != nil {
		_ = m.conn.Close()
		m.conn = nil
	}
	if m.proc != nil {
		k, err := m.proc.Stop(ctx)
		killed = k
		errs = append(errs, err)
	}
	socket := filepath.Join(r.Dir, "qmp.sock")
	if link := shortLink(r); len(socket) > maxSocketPath {
		socket = filepath.Join(link, "qmp.sock")
	}
	k, err := vm.End(ctx, s.VM, mark(r.Token("vm")), socket)
	errs = append(errs, err)
	if killed || k {
		r.Events.Emit(event.Warn{Text: "The guest's QEMU did not end when asked to and was killed."})
	}
	return errors.Join(errs...)
}

// setVNCPassword sets the password that the arguments only announce: it is in
// no argument.
func (m *machine) setVNCPassword(ctx context.Context) error {
	if !m.cfg.VNCUsePassword {
		return nil
	}
	m.vncPassword = secret.New(m.cfg.VNCPassword)
	if m.vncPassword.IsEmpty() {
		m.vncPassword = secret.New(rand.Text()[:8])
	}
	err := m.proc.QMP().Do(ctx, "set_password", map[string]string{"protocol": "vnc", "password": m.vncPassword.Reveal()}, nil)
	if err != nil {
		return fmt.Errorf("VNC password: %w", err)
	}
	return nil
}
