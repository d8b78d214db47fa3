package qemu

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// guestCode is a boot sector for a PC with BIOS. It writes "guest is up" to
// the first serial port, echoes there what is typed, writes what was typed to
// the disk's second sector at Enter, and powers off then or when the power
// button is pressed.
//
//	xor ax,ax; ds=es=ss=ax; sp=0x7c00
//	out 0x602, 0x100          power button enabled (PM1 enable of ACPI)
//	print msg; di=0x7e00
//	loop: in 0x600; bit 8 set? -> off
//	      int 16h/1, int 16h/0 -> al; stosb; out 0x3f8, al; not Enter? -> loop
//	      int 13h: write 1 sector from 0x7e00 to sector 2 of disk 0x80
//	off:  out 0x604, 0x2000   S5
const guestCode = "31c08ed88ec08ed0bc007cfcba0206b80001efbe5b7cac84c07405e83800" +
	"ebf6bf007eba0006edf6c4017520b401cd1674f130e4cd16aae81c003c0d" +
	"75e5b80103b90200ba8000bb007ecd13ba0406b80020eff4ebfdbaf803ee" +
	"c367756573742069732075700d0a00"

// guestDisk writes a disk image with the tiny guest and returns its path.
func guestDisk(t *testing.T, dir string) string {
	t.Helper()
	code, err := hex.DecodeString(guestCode)
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, 1<<20)
	copy(disk, code)
	disk[510], disk[511] = 0x55, 0xaa
	p := filepath.Join(dir, "guest.img")
	if err := os.WriteFile(p, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs %v", programs)
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("this test needs the program %s: %v", p, err)
		}
	}
}

// events keeps what a build says.
type events struct {
	mu  sync.Mutex
	all []event.Event
}

func (e *events) Emit(ev event.Event) {
	event.Discard.Emit(ev) // answers questions
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, ev := range e.all {
		switch ev := ev.(type) {
		case event.Say:
			fmt.Fprintln(&b, "say:", ev.Text)
		case event.Warn:
			fmt.Fprintln(&b, "warn:", ev.Text)
		case event.Detail:
			fmt.Fprintln(&b, "detail:", ev.Text)
		}
	}
	return b.String()
}

// bench is a place to build in.
type bench struct {
	t      *testing.T
	root   string // output folders go here
	runs   string // run directories
	cache  string
	events *events
	force  bool
	n      int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	root := t.TempDir()
	b := &bench{t: t, root: root, runs: filepath.Join(root, "runs"), cache: filepath.Join(root, "cache"), events: &events{}}
	return b
}

// attempt is one run of one build.
type attempt struct {
	b   builder.Builder
	r   *builder.Run
	j   *journal.Journal
	dir string
	id  string
}

// begin opens a build in a new run.
func (b *bench) begin(c Config) *attempt {
	b.t.Helper()
	b.n++
	id := fmt.Sprintf("%s-%d", strings.ReplaceAll(b.t.Name(), "/", "-"), b.n)
	dir := filepath.Join(b.runs, id)
	j, err := journal.Create(dir, time.Now, journal.Header{Version: "test", Run: id, Started: time.Now(), Builds: []string{"qemu.x"}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = j.Close() })
	return b.open(c, id, j, nil)
}

func (b *bench) open(c Config, id string, j *journal.Journal, history []journal.Record) *attempt {
	b.t.Helper()
	info := builder.Info{Name: "x", Type: "qemu", Build: "qemu.x", Force: b.force, RunID: id, Cache: b.cache}
	d := Driver()
	bld, err := d.Open(&c, info)
	if bld == nil {
		b.t.Fatal(err)
	}
	a := &attempt{b: bld, j: j, id: id, dir: filepath.Join(b.runs, id, "0")}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	a.r = builder.NewRun(info, a.dir, b.events, j, history)
	return a
}

// after returns the same run as another process finds it in the journal.
func (b *bench) after(a *attempt, c Config) *attempt {
	b.t.Helper()
	if err := a.j.Close(); err != nil {
		b.t.Fatal(err)
	}
	j, recs, err := journal.Open(filepath.Join(b.runs, a.id), time.Now)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = j.Close() })
	return b.open(c, a.id, j, recs)
}

// tiny is the options of a build of the tiny guest.
func (b *bench) tiny() Config {
	c := Config{
		ISOURL: guestDisk(b.t, b.root), ISOChecksum: "none", DiskImage: true, DiskSize: "2M",
		Headless: true, MemorySize: 16, Accelerator: "tcg", OutputDir: filepath.Join(b.root, "out"), VMName: "disk.qcow2",
		BootWait: -1, BootKeyInterval: 20 * time.Millisecond,
	}
	c.Communicator = "none"
	return c
}

// leftovers are the names in the bench's folder that no build may leave.
func (b *bench) leftovers() []string {
	b.t.Helper()
	var out []string
	list, err := os.ReadDir(b.root)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range list {
		switch e.Name() {
		case "runs", "cache", "guest.img":
		default:
			out = append(out, e.Name())
		}
	}
	return out
}

const terminate = syscall.SIGTERM

func itoa(n int) string { return strconv.Itoa(n) }
