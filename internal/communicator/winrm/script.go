package winrm

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
)

// cleanTime bounds the removal of files after ctx ended.
const cleanTime = 15 * time.Second

var _ communicator.ScriptRunner = (*Conn)(nil)

// RunScript implements [communicator.ScriptRunner]: the files are put, run and
// removed in one shell, all of them with one start of PowerShell.
func (c *Conn) RunScript(ctx context.Context, s communicator.Script) error {
	ctx, done, err := c.bind(ctx)
	if err != nil {
		return err
	}
	defer done()
	sh, err := c.reach(ctx)
	if err != nil {
		return err
	}
	defer sh.close()
	files := append([]communicator.ScriptFile{{Path: s.Path, Mode: s.Mode, Body: s.Body}}, s.Extra...)
	err = asPut(s.Path, sh.putScript(ctx, files))
	if err == nil {
		err = lost(sh.run(ctx, communicator.Cmd{Line: s.Line, Stdout: s.Stdout, Stderr: s.Stderr}))
	}
	var gone *communicator.DisconnectError
	if s.Keep || errors.As(err, &gone) {
		return err
	}
	clean, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	if rerr := sh.run(clean, communicator.Cmd{Line: removal(files)}); err == nil {
		err = lost(rerr)
	}
	return err
}

func (sh *shell) putScript(ctx context.Context, files []communicator.ScriptFile) error {
	u, err := sh.upload(ctx)
	if err != nil {
		return err
	}
	b := &batch{u: u}
	for _, f := range files {
		if err := b.file(ctx, f.Path, bytes.NewReader(f.Body), nil); err != nil {
			return err
		}
	}
	return b.finish(ctx)
}

// removal is a line of cmd.exe, which starts sooner than PowerShell. del says
// nothing of files that are not there.
func removal(files []communicator.ScriptFile) string {
	line := "del /f /q"
	for _, f := range files {
		line += ` "` + strings.ReplaceAll(f.Path, "/", `\`) + `"`
	}
	return line
}
