package shell

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/checkpoint"
)

// Key implements [provisioner.Provisioner]. The scripts count by content, not
// by name; the variables in the order of their names, whichever option they
// came from. start_retry_timeout does not count: it decides only how long a
// guest that does not answer is waited for. What a script reads of the
// PACKER_ variables is not known here, so a script that names one gives the
// zero key, as does an execute_command that names a value of the guest.
func (s *shell) Key(ctx context.Context) (checkpoint.Key, error) {
	if err := context.Cause(ctx); err != nil {
		return checkpoint.Key{}, err
	}
	c := s.cfg
	// A value of the guest is missing here and fails the rendering.
	line, err := s.command.Render(map[string]any{"Path": "path", "Vars": "vars", "EnvVarFile": "file"})
	if err != nil || strings.Contains(c.ExecuteCommand, ownVars) {
		return checkpoint.Key{}, nil
	}
	d := checkpoint.NewDigest("shell.v1")
	for _, src := range s.sources {
		named, err := s.digest(d, src)
		if err != nil {
			return checkpoint.Key{}, err
		}
		if named {
			return checkpoint.Key{}, nil
		}
	}
	d.Text(strconv.Itoa(len(s.sources)), line, c.EnvVarFormat, c.RemotePath, c.RemoteFolder, c.RemoteFile,
		strconv.FormatBool(c.UseEnvVarFile), strconv.FormatBool(c.SkipClean), strconv.FormatBool(c.ExpectDisconnect),
		fmt.Sprint(c.ValidExitCodes), c.PauseAfter.String())
	for _, k := range s.env.Names() {
		d.Text(k, s.env[k])
	}
	return d.Key(), nil
}

// ownVars begins the names of the variables every script gets.
const ownVars = "PACKER_"

// digest adds the content of src and reports whether it has ownVars in it.
func (s *shell) digest(d *checkpoint.Digest, src source) (named bool, err error) {
	r, done, err := s.read(src)
	if err != nil {
		return false, err
	}
	defer done()
	f := &finder{want: []byte(ownVars)}
	if err := d.Reader(io.TeeReader(r, f)); err != nil {
		return false, fmt.Errorf("read script %s: %w", src.name, err)
	}
	return f.found, nil
}

// A finder looks for want in what is written to it.
type finder struct {
	want  []byte
	tail  []byte // the last bytes, which may be the beginning of want
	found bool
}

func (f *finder) Write(p []byte) (int, error) {
	f.tail = append(f.tail, p...)
	f.found = f.found || bytes.Contains(f.tail, f.want)
	keep := min(len(f.tail), len(f.want)-1)
	f.tail = append(f.tail[:0], f.tail[len(f.tail)-keep:]...)
	return len(p), nil
}

// read returns the content of src as the guest gets it.
func (s *shell) read(src source) (r io.Reader, done func(), err error) {
	if src.path == "" {
		return bytes.NewReader(src.body), func() {}, nil
	}
	f, err := os.Open(src.path)
	if err != nil {
		return nil, nil, fmt.Errorf("script: %w", err)
	}
	done = func() { _ = f.Close() }
	if s.cfg.Binary {
		return f, done, nil
	}
	return &lfReader{r: f}, done, nil
}
