package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ingot-build/ingot/internal/localcloud/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ingot": main, "packer": main, "ingot-mortal": mortal})
}

// TestScripts runs what a user does, without a machine.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("TERM", "xterm")
			e.Defer(func() { endService(filepath.Join(e.WorkDir, "cloud")) })
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// endService ends the service of a local cloud that a script which failed has
// left.
func endService(dir string) {
	if info, ok := server.Find(dir); ok {
		_ = syscall.Kill(info.PID, syscall.SIGKILL) // it may have ended meanwhile
	}
}

// exits runs a command that ends with a given code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command [args…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
