package hcpsbom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/winscript"
)

const (
	unixFile    = "/tmp/packer-sbom-runner"
	windowsFile = "c:/Windows/Temp/packer-sbom-runner.ps1"

	// The first runs as root where that takes sudo, and without it elsewhere.
	unixCommand    = `chmod +x {{.Path}} && $(command -v sudo) {{.Path}} sbom-generate {{.Args}} {{.ScanPath}} > {{.Output}}`
	windowsCommand = `powershell -NoProfile -NonInteractive -ExecutionPolicy Bypass -File {{.Path}} sbom-generate {{.Args}} {{.ScanPath}} > {{.Output}}`

	// maxSize is the most that is taken from a guest, in bytes.
	maxSize = 256 << 20
	// cleanTime bounds the removal of files on the guest.
	cleanTime = 15 * time.Second
)

// Apply implements [provisioner.Provisioner]. As with Packer a bill of
// materials that cannot be had does not fail the build: it is warned of. Only
// the end of ctx is an error.
func (s *sbom) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	err := s.apply(ctx, g, out)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	text := fmt.Sprintf("no SBOM was written: %v", err)
	if h := diag.Hint(err); h != "" {
		text += " (" + h + ")"
	}
	out.Emit(event.Warn{Text: text})
	return nil
}

func (s *sbom) apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	var doc []byte
	var err error
	if s.cfg.Source != "" {
		out.Emit(event.Say{Text: "Downloading SBOM " + s.cfg.Source})
		doc, err = fetch(ctx, g, s.cfg.Source)
	} else {
		out.Emit(event.Say{Text: "Generating SBOM of " + s.cfg.ScanPath})
		doc, err = s.generate(ctx, g, out)
	}
	if err != nil {
		return err
	}
	f, err := check(doc)
	if err != nil {
		return err
	}
	dst := s.destination(g.Data, f)
	if err := atomicfile.Write(dst, doc, 0o644); err != nil {
		return fmt.Errorf("write SBOM: %w", err)
	}
	out.Emit(event.Say{Text: fmt.Sprintf("SBOM (%s) written to %s", f, dst)})
	return nil
}

// A limited is a buffer that takes so much and no more.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxSize {
		return 0, fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	return l.Buffer.Write(p)
}

func fetch(ctx context.Context, g communicator.Guest, src string) ([]byte, error) {
	var b limited
	if err := g.Get(ctx, src, &b); err != nil {
		return nil, fmt.Errorf("download %s: %w", src, err)
	}
	return bytes.TrimPrefix(b.Bytes(), []byte("\xef\xbb\xbf")), nil
}

var unsafe = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// name is the document's: sbom_name, or the build's.
func (s *sbom) name(d communicator.Data) string {
	switch {
	case s.cfg.SbomName != "":
		return s.cfg.SbomName
	case d.BuildName != "":
		return unsafe.ReplaceAllString(d.BuildName, "-")
	}
	return "image"
}

// destination is the file to write: destination, a file in it when it is a
// folder, or one in the working directory.
func (s *sbom) destination(d communicator.Data, f format) string {
	dst := s.cfg.Destination
	if dst != "" && !isFolder(dst) {
		return dst
	}
	kind, _, _ := strings.Cut(string(f), "-")
	return filepath.Join(dst, s.name(d)+".sbom."+kind+".json")
}

// generate has a script of ours, or the template's command, list what is
// installed.
func (s *sbom) generate(ctx context.Context, g communicator.Guest, out event.Sink) ([]byte, error) {
	windows, err := isWindows(ctx, g)
	if err != nil {
		return nil, err
	}
	r := run{path: unixFile, body: []byte(unixRunner), command: unixCommand}
	if windows {
		r = run{path: windowsFile, body: winscript.Text(windowsRunner), command: windowsCommand, windows: true}
	}
	suffix := "-" + winscript.Random()
	r.output = strings.TrimSuffix(r.path, ".ps1") + suffix + ".json"
	line, err := s.line(g.Data, r)
	if err != nil {
		return nil, err
	}
	files := []communicator.ScriptFile{{Path: r.path, Mode: 0o755, Body: r.body}}
	if s.cfg.ElevatedUser != "" {
		if !windows {
			return nil, errors.New("elevated_user is for Windows guests")
		}
		password, err := s.password.Render(script.BuildData(g.Data, nil))
		if err != nil {
			return nil, fmt.Errorf("elevated_password: %w", err)
		}
		var wrapper communicator.ScriptFile
		// In a shell of its own, whose redirection is not that of the task.
		wrapper, line = winscript.Elevated(s.cfg.ElevatedUser, secret.New(password), `cmd /c "`+line+`"`)
		files = append(files, wrapper)
	}
	defer r.clean(ctx, g, files)
	for _, f := range files {
		if err := g.Put(ctx, f.Path, f.Mode, bytes.NewReader(f.Body), int64(len(f.Body))); err != nil {
			return nil, fmt.Errorf("upload %s: %w", f.Path, err)
		}
	}
	stdout, stderr := event.Lines(out, false), event.Lines(out, true)
	defer stdout.Close()
	defer stderr.Close()
	if err := g.Run(ctx, communicator.Cmd{Line: line, Stdout: stdout, Stderr: stderr}); err != nil {
		return nil, fmt.Errorf("run the scanner: %w", err)
	}
	got, err := fetch(ctx, g, r.output)
	if err != nil {
		return nil, err
	}
	if _, err := check(got); err == nil {
		return got, nil // a scanner of the template's own
	}
	l, err := parseListing(string(got))
	if err != nil {
		return nil, diag.WithHint(err, "an execute_command of your own must write an SBOM in JSON to {{.Output}}")
	}
	return l.document(s.format, s.name(g.Data), time.Now())
}

// A run is how the scanner is run on one kind of guest.
type run struct {
	path, output string
	body         []byte
	command      string
	windows      bool
}

func (s *sbom) line(d communicator.Data, r run) (string, error) {
	command := s.command
	if command == nil {
		c, err := script.ParseCommand(r.command)
		if err != nil {
			return "", err
		}
		command = &c
	}
	quote := script.Quote
	if r.windows {
		quote = func(w string) string {
			if strings.ContainsAny(w, " &|<>^()") {
				return `"` + w + `"`
			}
			return w
		}
	}
	args := make([]string, 0, len(s.cfg.ScannerArgs))
	for _, a := range s.cfg.ScannerArgs {
		args = append(args, quote(a))
	}
	line, err := command.Render(script.BuildData(d, map[string]any{
		"Path": r.path, "Args": strings.Join(args, " "), "ScanPath": quote(s.cfg.ScanPath), "Output": r.output,
	}))
	if err != nil {
		return "", diag.WithHint(fmt.Errorf("execute_command: %w", err), "it may name .Path, .Args, .ScanPath, .Output and the values of build.*")
	}
	return line, nil
}

// clean removes what was put on the guest; what is left there does no harm.
func (r run) clean(ctx context.Context, g communicator.Guest, files []communicator.ScriptFile) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	line := "rm -f"
	if r.windows {
		line = "del /f /q"
	}
	for _, f := range append(files, communicator.ScriptFile{Path: r.output}) {
		if r.windows {
			line += ` "` + strings.ReplaceAll(f.Path, "/", `\`) + `"`
		} else {
			line += " " + script.Quote(f.Path)
		}
	}
	if !r.windows {
		// sudo made the output ours all the same: the shell before it did.
		line += " 2>/dev/null"
	}
	_ = g.Run(ctx, communicator.Cmd{Line: line})
}

// isWindows asks the guest what it is.
func isWindows(ctx context.Context, g communicator.Guest) (bool, error) {
	if g.Data.ConnType == "winrm" {
		return true, nil
	}
	err := g.Run(ctx, communicator.Cmd{Line: "uname -s -m"})
	var exit *communicator.ExitError
	if errors.As(err, &exit) {
		return true, nil // a shell that does not know uname
	}
	return false, err
}
