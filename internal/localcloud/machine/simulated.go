package machine

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// guestDir in Spec.Dir is what a simulated guest has for a disk.
const guestDir = "guest"

// timersDir in the guest's folder has a file for each timer that is set.
const timersDir = "timers"

// Simulated has no machines: it stands in for [QEMU] where the story around a
// machine is tested. A guest is an SSH server in this process. What is run in
// it is run HERE, by /bin/sh, as this user, in a folder of the machine (which
// is its HOME) but not locked into it: it is for tests, whose commands are
// known, and for nothing else.
//
// A guest lets in Spec.AuthorizedKeys under any name; has sudo, which changes
// nothing, and the commands that shut down and reboot; keeps its folder and its
// host key over restarts; prints the host key on its console as an instance
// does; listens on port 22 only. Its disks are not written to. It ends with
// this process: then [Simulated.Find] finds nothing. The zero value is ready
// for use.
type Simulated struct {
	mu       sync.Mutex
	machines map[string]*simulation // by token
}

// Check implements [Driver].
func (*Simulated) Check(_ context.Context, arch string) error {
	if _, ok := emulators[arch]; !ok {
		return fmt.Errorf("machines of the architecture %q cannot be run; x86_64 and arm64 can", arch)
	}
	return nil
}

// simulation is a machine of [Simulated].
type simulation struct {
	driver *Simulated
	spec   Spec
	token  string
	home   string // guestDir
	ports  portShift
	config *gossh.ServerConfig
	halt   chan string // what the guest is to do: "halt" or "reboot"
	pipe   *os.File    // where the guest's commands ask for it
	done   chan struct{}
	tasks  sync.WaitGroup

	mu     sync.Mutex
	ended  bool
	halted bool
	listen net.Listener // nil: port 22 is closed
	conns  map[net.Conn]bool
	groups map[int]bool // process groups of running commands
	disks  map[string]Disk
	boot   int // counts boots: what belongs to an earlier one is gone
}

// Start implements [Driver].
func (d *Simulated) Start(ctx context.Context, s Spec) (Process, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", s.ID, err)
	}
	for _, disk := range s.Disks {
		if _, err := os.Stat(disk.Path); err != nil {
			return nil, fmt.Errorf("start machine %s: %w", s.ID, err)
		}
	}
	ports, err := shiftPorts(s.Address, nil)
	if err != nil {
		return nil, err
	}
	m := &simulation{
		driver: d, spec: s, token: random(), home: filepath.Join(s.Dir, guestDir), ports: ports,
		halt: make(chan string, 1), done: make(chan struct{}),
		conns: map[net.Conn]bool{}, groups: map[int]bool{}, disks: map[string]Disk{},
	}
	for _, disk := range s.Disks {
		m.disks[disk.VolumeID] = disk
	}
	if err := m.prepare(); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", s.ID, err)
	}
	if err := m.SetPorts(ctx, s.Ports); err != nil {
		_ = m.pipe.Close()
		return nil, err
	}
	d.mu.Lock()
	if d.machines == nil {
		d.machines = map[string]*simulation{}
	}
	d.machines[m.token] = m
	d.mu.Unlock()
	m.tasks.Go(m.obey)
	go m.run()
	return m, nil
}

// Find implements [Driver].
func (d *Simulated) Find(s Spec, js json.RawMessage) (Process, bool) {
	var id identity
	if json.Unmarshal(js, &id) != nil || id.Driver != "simulated" {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.machines[id.Token]
	if !ok {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spec.Address = s.Address // ports that are opened from now on are there
	return m, true
}

// run waits for what the guest itself decides.
func (m *simulation) run() {
	for {
		select {
		case <-m.done:
			return
		case what := <-m.halt:
			if what == "reboot" {
				m.reboot()
				continue
			}
			m.end(true)
			return
		}
	}
}

// prepare makes the guest's folder, reads its keys and prints the console.
func (m *simulation) prepare() error {
	if err := os.MkdirAll(filepath.Join(m.home, "bin"), 0o700); err != nil {
		return err
	}
	// Timers are of one boot.
	if err := os.RemoveAll(filepath.Join(m.home, timersDir)); err != nil {
		return err
	}
	for name, text := range guestCommands {
		if err := writeProgram(filepath.Join(m.home, "bin", name), text); err != nil {
			return err
		}
	}
	key, err := m.hostKey()
	if err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	var allowed [][]byte
	for _, line := range m.spec.AuthorizedKeys {
		k, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return fmt.Errorf("authorized key: %w", err)
		}
		allowed = append(allowed, k.Marshal())
	}
	m.config = &gossh.ServerConfig{PublicKeyCallback: func(_ gossh.ConnMetadata, k gossh.PublicKey) (*gossh.Permissions, error) {
		for _, a := range allowed {
			if bytes.Equal(a, k.Marshal()) {
				return &gossh.Permissions{}, nil
			}
		}
		return nil, errors.New("this key may not log in")
	}}
	m.config.AddHostKey(key)
	if err := m.printConsole(key); err != nil {
		return err
	}
	m.pipe, err = openControl(filepath.Join(m.home, "control"))
	return err
}

// writeProgram writes a program. Meanwhile no child is forked: until it runs
// its own program it would have the file open, too, and what is open for
// writing cannot be run (ETXTBSY).
func writeProgram(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o700) //nolint:gosec // a program
}

// hostKey returns the guest's host key, which its first start makes.
func (m *simulation) hostKey() (gossh.Signer, error) {
	file := filepath.Join(m.home, "ssh_host_ed25519_key")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		_, private, gerr := ed25519.GenerateKey(rand.Reader)
		if gerr != nil {
			return nil, gerr
		}
		block, merr := gossh.MarshalPrivateKey(private, "")
		if merr != nil {
			return nil, merr
		}
		text = pem.EncodeToMemory(block)
		err = atomicfile.Write(file, text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return gossh.ParsePrivateKey(text)
}

func (m *simulation) printConsole(key gossh.Signer) error {
	f, err := os.OpenFile(m.spec.Console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "A simulated machine: %s\r\n-----BEGIN SSH HOST KEY KEYS-----\r\n%s\r\n-----END SSH HOST KEY KEYS-----\r\n",
		m.spec.ID, bytes.TrimSpace(gossh.MarshalAuthorizedKey(key.PublicKey())))
	return errors.Join(err, f.Close())
}

// Identity implements [Process].
func (m *simulation) Identity() json.RawMessage {
	js, _ := json.Marshal(identity{Driver: "simulated", Token: m.token, Ports: m.ports}) // plain values
	return js
}

// HostPort implements [Process].
func (m *simulation) HostPort(port int) int {
	return m.ports.host(port)
}

// PowerButton implements [Process].
func (m *simulation) PowerButton(context.Context) error { return m.ask("halt") }

// Reset implements [Process].
func (m *simulation) Reset(context.Context) error {
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended {
		return ErrEnded
	}
	m.reboot()
	return nil
}

// ask has the machine's own goroutine do something, so that a command in the
// guest can end the guest.
func (m *simulation) ask(what string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return ErrEnded
	}
	select {
	case m.halt <- what:
	default: // it is about to do something of the kind
	}
	return nil
}

// reboot cuts every connection and ends every command.
func (m *simulation) reboot() {
	m.mu.Lock()
	m.boot++
	m.cut()
	m.mu.Unlock()
	if key, err := m.hostKey(); err == nil {
		_ = m.printConsole(key) // as a real console: nobody waits for it
	}
}

// cut is called with the lock held.
func (m *simulation) cut() {
	_ = os.RemoveAll(filepath.Join(m.home, timersDir)) // the next start tries again
	for c := range m.conns {
		_ = c.Close()
	}
	for g := range m.groups {
		killGroup(g)
	}
}

// end ends the machine and returns when nothing of it runs any more.
func (m *simulation) end(halted bool) {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		<-m.done
		return
	}
	m.ended, m.halted = true, halted
	if m.listen != nil {
		_ = hangUp(m.listen)
		m.listen = nil
	}
	m.cut()
	m.mu.Unlock()
	_ = m.pipe.Close()
	m.tasks.Wait()
	m.driver.mu.Lock()
	delete(m.driver.machines, m.token)
	m.driver.mu.Unlock()
	close(m.done)
}

// Kill implements [Process].
func (m *simulation) Kill(context.Context) error {
	m.end(false)
	return nil
}

// Done implements [Process].
func (m *simulation) Done() <-chan struct{} { return m.done }

// GuestHalted implements [Process].
func (m *simulation) GuestHalted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.halted
}

// Screenshot implements [Process]: a black screen.
func (m *simulation) Screenshot(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, ErrEnded
	}
	var out bytes.Buffer
	err := jpeg.Encode(&out, image.NewGray(image.Rect(0, 0, 720, 400)), nil)
	return out.Bytes(), err
}

// SetPorts implements [Process].
func (m *simulation) SetPorts(_ context.Context, ports []int) error {
	if err := checkPorts(ports); err != nil {
		return err
	}
	open := false
	for _, p := range ports {
		open = open || p == 22
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		return ErrEnded
	case open && m.listen == nil:
		addr := hostAddr(m.spec.Address, m.HostPort(22))
		ln, err := net.Listen("tcp4", addr)
		if err != nil {
			return portError(addr, err)
		}
		m.listen = ln
		m.tasks.Go(func() { m.accept(ln) })
	case !open && m.listen != nil:
		_ = hangUp(m.listen)
		m.listen = nil
	}
	return nil
}

// SetMetadata implements [Process]: no guest asks.
func (m *simulation) SetMetadata(_ context.Context, addr string) error {
	if _, err := parseTarget(addr); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return ErrEnded
	}
	return nil
}

// AttachDisk implements [Process].
func (m *simulation) AttachDisk(_ context.Context, d Disk) error {
	err := d.check()
	if err == nil {
		_, err = os.Stat(d.Path)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		return ErrEnded
	case err != nil:
		return fmt.Errorf("attach %s to %s: %w", d.VolumeID, m.spec.ID, err)
	}
	if _, there := m.disks[d.VolumeID]; there {
		return nil
	}
	if len(m.disks) > lastSlot-firstSlot {
		return fmt.Errorf("attach %s to %s: %w", d.VolumeID, m.spec.ID, errNoRoom)
	}
	m.disks[d.VolumeID] = d
	return nil
}

// DetachDisk implements [Process].
func (m *simulation) DetachDisk(_ context.Context, volumeID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return ErrEnded
	}
	delete(m.disks, volumeID)
	return nil
}

// SnapshotDisks implements [Process].
func (m *simulation) SnapshotDisks(ctx context.Context, volumeIDs, files []string) (err error) {
	if len(volumeIDs) != len(files) || len(files) == 0 {
		return fmt.Errorf("snapshot of %d disks to %d files", len(volumeIDs), len(files))
	}
	m.mu.Lock()
	ended, disks := m.ended, maps.Clone(m.disks)
	m.mu.Unlock()
	if ended {
		return ErrEnded
	}
	var made []string
	defer func() {
		for _, f := range made {
			if err != nil {
				_ = os.Remove(f) // the error says enough
			}
		}
		if err != nil {
			err = fmt.Errorf("snapshot of %s: %w", m.spec.ID, err)
		}
	}()
	for i, id := range volumeIDs {
		d, ok := disks[id]
		if !ok {
			return fmt.Errorf("the volume %s is not attached", id)
		}
		if d.Format != "qcow2" {
			return fmt.Errorf("the volume %s is %s: a simulated machine copies qcow2 only", id, d.Format)
		}
		if err := copyImage(ctx, d.Path, files[i], &made); err != nil {
			return err
		}
	}
	return nil
}
