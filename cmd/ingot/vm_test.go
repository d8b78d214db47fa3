package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// basePath is the Debian base image that the machine tests start from.
const basePath = "../../.ingot/base/debian-12-amd64.qcow2"

// vmDeadline bounds one wait for something a guest does. The machines that run
// these tests emulate the processor and are shared.
const vmDeadline = 10 * time.Minute

// TestVM runs the scripts that need a real machine.
func TestVM(t *testing.T) {
	if testing.Short() {
		t.Skip("needs virtual machines")
	}
	base := os.Getenv("INGOT_TEST_BASE")
	if base == "" {
		abs, err := filepath.Abs(basePath)
		if err != nil {
			t.Fatal(err)
		}
		base = abs
	}
	if _, err := os.Stat(base); err != nil {
		t.Fatalf("no base image: run `make base` first, or name one in INGOT_TEST_BASE: %v", err)
	}
	cache := t.TempDir()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/vm",
		Setup: func(e *testscript.Env) error {
			e.Setenv("BASE", base)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("INGOT_CACHE_DIR", cache)
			// Sockets have short paths only.
			state, err := os.MkdirTemp("", "ingot-vm-")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(state) })
			e.Setenv("XDG_STATE_HOME", state)
			e.Defer(func() { endService(filepath.Join(state, "cloud")) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"nomachine":   noMachine,
			"killmachine": killMachine,
			"waitfor":     waitFor,
			"smalldisk":   smallDisk,
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
	})
}

// machines returns the processes of QEMU that belong to this script: those
// whose arguments name its state folder or its work folder.
func machines(ts *testscript.TestScript) []int {
	var pids []int
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, p := range procs {
		line, err := os.ReadFile(p)
		if err != nil {
			continue // it has ended meanwhile
		}
		name := filepath.Base(string(bytes.SplitN(line, []byte{0}, 2)[0]))
		if !strings.HasPrefix(name, "qemu-system") {
			continue
		}
		if bytes.Contains(line, []byte(ts.Getenv("XDG_STATE_HOME"))) || bytes.Contains(line, []byte(ts.Getenv("WORK"))) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			ts.Check(err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func noMachine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: nomachine")
	}
	if pids := machines(ts); len(pids) != 0 {
		ts.Fatalf("QEMU still runs: processes %v", pids)
	}
}

func killMachine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: killmachine")
	}
	pids := machines(ts)
	if len(pids) != 1 {
		ts.Fatalf("want one QEMU to kill, found %v", pids)
	}
	ts.Check(syscall.Kill(pids[0], syscall.SIGKILL))
}

// smallDisk makes a folder with room for so many MiB.
func smallDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: smalldisk folder MiB")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]+"m"))
	ts.Defer(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// waitFor waits until a file exists.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor file")
	}
	path := ts.MkAbs(args[0])
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(vmDeadline); time.Now().Before(deadline); <-tick.C {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear within %s", args[0], vmDeadline)
}
