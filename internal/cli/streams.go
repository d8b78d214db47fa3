package cli

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// StreamsOf describes the streams, environment and folder of a process.
func StreamsOf(in, out, err *os.File, env []string, version string) (Streams, error) {
	cwd, cerr := os.Getwd()
	if cerr != nil {
		return Streams{}, cerr
	}
	exe, cerr := os.Executable()
	if cerr != nil {
		exe = programName
	}
	return Streams{
		In: in, Out: out, Err: err, Env: env, Cwd: cwd, Version: version, Program: exe, Name: filepath.Base(os.Args[0]), Now: time.Now, Chdir: os.Chdir,
		InTerminal:  foreground(in),
		OutTerminal: foreground(out),
		ErrTerminal: term.IsTerminal(int(err.Fd())),
		Size: func() (int, int) {
			cols, rows, err := term.GetSize(int(out.Fd()))
			if err != nil {
				return 0, 0
			}
			return cols, rows
		},
	}, nil
}

// foreground reports whether f is a terminal and the process is in its
// foreground group: a background process neither asks nor draws.
func foreground(f *os.File) bool {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return false
	}
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}
