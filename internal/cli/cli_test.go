package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/poll"
)

// A bench is a platform without machines: it reports what it is told to.
type bench struct {
	cfg     benchConfig
	started chan<- struct{}
}

type benchConfig struct {
	Fail  string `hcl:"fail"`
	Hang  bool   `hcl:"hang"`  // booting waits for its context
	Stuck bool   `hcl:"stuck"` // so does the clean-up
}

func (b *bench) Check(context.Context) error                 { return nil }
func (b *bench) Base(context.Context) (artifact.Base, error) { return artifact.Base{}, nil }
func (b *bench) Seal(context.Context, *builder.Run) (artifact.Set, error) {
	return artifact.Set{BuilderID: "test.bench", ID: "b-1", Text: "a bench"}, nil
}

func (b *bench) Boot(ctx context.Context, r *builder.Run) (communicator.Guest, error) {
	r.Say("booting")
	if b.cfg.Hang {
		close(b.started)
		<-ctx.Done()
		return communicator.Guest{}, context.Cause(ctx)
	}
	if b.cfg.Fail != "" {
		return communicator.Guest{}, diag.WithHint(errors.New(b.cfg.Fail), "try harder")
	}
	return communicator.Guest{Communicator: communicator.None{}}, nil
}

func (b *bench) Discard(ctx context.Context, r *builder.Run) error {
	if b.cfg.Stuck {
		r.Say("cleaning up")
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// nothing is a program without components.
func nothing(component.Platform) component.Set { return component.Set{} }

// only is a program with the components of a set.
func only(s component.Set) component.Builtin {
	return func(component.Platform) component.Set { return s }
}

func benches(started chan<- struct{}) component.Builtin { return only(benchSet(started)) }

func benchSet(started chan<- struct{}) component.Set {
	return component.Set{Builders: []builder.Driver{
		builder.NewDriver("bench", func(c benchConfig, _ builder.Info) (builder.Builder, error) {
			if c.Fail == "at open" {
				return nil, diag.Fieldf("fail", "must not be %q", c.Fail)
			}
			return &bench{c, started}, nil
		}),
	}}
}

// A buffer may be read while a command writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	for !strings.Contains(b.String(), text) {
		if err := poll.Sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("no %q in:\n%s", text, b)
		}
	}
}

func testStreams(t *testing.T, out io.Writer) Streams {
	dir := t.TempDir()
	return Streams{
		In: strings.NewReader(""), Out: out, Err: io.Discard, Cwd: dir, Version: "0.1.0", Program: "/usr/bin/ingot", Now: time.Now,
		Env: []string{"HOME=" + dir, "XDG_STATE_HOME=" + filepath.Join(dir, "state")},
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func benchTemplate(t *testing.T, dir, options string) {
	write(t, dir, "t.pkr.hcl", "source \"bench\" \"a\" {\n"+options+"\n}\nbuild {\n  sources = [\"source.bench.a\"]\n}\n")
}

func TestBuildReportsAndExits(t *testing.T) {
	for _, tt := range []struct {
		name, options string
		args          []string
		code          int
		want          []string
	}{
		{"done", "", nil, 0, []string{
			"==> bench.a: booting\n", "Build 'bench.a' finished after", "--> bench.a: a bench\n",
		}},
		{"failed", `fail = "no bench"`, nil, 1, []string{
			"Build 'bench.a' errored after", "--> bench.a: no bench\n    try harder\n", "The full log is ",
		}},
		{"invalid", `fail = "at open"`, nil, 1, []string{"t.pkr.hcl line 2", `ust not be "at open"`}},
		{"nothing selected", "", []string{"-only=x.*"}, 1, []string{"bench.a"}},
		{"machine", `fail = "a, b"`, []string{"-machine-readable"}, 1, []string{
			",,ui,say,==> bench.a: booting\n", ",,error-count,1\n", ",bench.a,error,a%!(PACKER_COMMA) b\n",
		}},
		{"json", "", []string{"-progress=json"}, 0, []string{`{"type":"hello","format":1,"version":"0.1.0"}`, `"type":"run-ended"`}},
		{"json invalid", `fail = "at open"`, []string{"-progress=json"}, 1, []string{`{"type":"diagnostic","severity":"error"`}},
		{"colour", "", []string{"-color"}, 0, []string{"\x1b[1;32mbench.a: output will be in this color.\x1b[0m\n"}},
		{"timestamps", "", []string{"-timestamp-ui"}, 0, []string{"Z: ==> bench.a: booting\n"}},
		{"debug without a terminal", "", []string{"-debug"}, 0, []string{"Debug mode enabled. Builds will not be parallelized.\n"}},
		{"bad choice", "", []string{"-on-error=panic"}, 1, []string{"cleanup, abort, ask, run-cleanup-provisioner", "Usage: ingot build"}},
		{"double dashes", "", []string{"--on-error=abort", "--parallel-builds", "1", "--progress=plain"}, 0, []string{"finished after"}},
		{"flag behind", "", []string{".", "-force"}, 1, []string{"Flags stand before it: -force"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out buffer
			s := testStreams(t, &out)
			zone := time.FixedZone("", 0)
			s.Now = func() time.Time { return time.Now().In(zone) }
			benchTemplate(t, s.Cwd, tt.options)
			args := append(append([]string{"build"}, tt.args...), ".")
			if code := Main(t.Context(), s, benches(nil), args); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.want {
				if !strings.Contains(strings.ReplaceAll(out.String(), "+00:00: ", "Z: "), w) {
					t.Errorf("no %q in:\n%s", w, &out)
				}
			}
		})
	}
}

func TestLogs(t *testing.T) {
	var out, errs buffer
	s := testStreams(t, &out)
	s.Err = &errs
	benchTemplate(t, s.Cwd, "")
	s.Env = append(s.Env, "PACKER_LOG=1")
	if code := Main(t.Context(), s, benches(nil), []string{"build", "."}); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &out)
	}
	if !strings.Contains(errs.String(), "[bench.a] say: booting") {
		t.Errorf("standard error: %s", &errs)
	}
	logs, err := filepath.Glob(filepath.Join(s.Cwd, "state/ingot/runs/*/log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs of runs: %v, %v", logs, err)
	}
	errs = buffer{}
	s.Env = append(s.Env, "INGOT_LOG_PATH=my.log")
	if code := Main(t.Context(), s, benches(nil), []string{"build", "."}); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &out)
	}
	if got, err := os.ReadFile(filepath.Join(s.Cwd, "my.log")); err != nil || !bytes.Contains(got, []byte("run-ended")) {
		t.Errorf("log: %s %v", got, err)
	}
	if errs.String() != "" {
		t.Errorf("standard error: %s", &errs)
	}
}

func TestInterrupts(t *testing.T) {
	started, abort, kill := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var out buffer
	s := testStreams(t, &out)
	s.Interrupts = Interrupts{abort, kill}
	benchTemplate(t, s.Cwd, "hang = true\nstuck = true")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	code := make(chan int)
	go func() { code <- Main(ctx, s, benches(started), []string{"build", "."}) }()
	<-started
	cancel(&InterruptError{syscall.SIGINT})
	out.waitFor(t, "Cancelling build after receiving interrupt\n")
	out.waitFor(t, "cleaning up")
	close(abort)
	if got := <-code; got != 1 {
		t.Errorf("exit code %d, want 1", got)
	}
	for _, w := range []string{"interrupted again", "was cancelled after", "\nCancelled builds after being interrupted.", "clean-up is not complete"} {
		if !strings.Contains(out.String(), w) {
			t.Errorf("no %q in:\n%s", w, &out)
		}
	}
}

func TestThirdInterruptEnds(t *testing.T) {
	started, abort, kill := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var out buffer
	s := testStreams(t, &out)
	s.Interrupts = Interrupts{abort, kill}
	benchTemplate(t, s.Cwd, "hang = true")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int)
	go func() { code <- Main(ctx, s, benches(started), []string{"build", "."}) }()
	<-started
	close(kill)
	if got := <-code; got != 1 {
		t.Errorf("exit code %d, want 1", got)
	}
	out.waitFor(t, "Stopped without clean-up after a third interrupt.")

	// The program would be gone now. The run in it is not: it must not write
	// to the folder of a test that is over.
	cancel()
	wait, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	for {
		logs, err := filepath.Glob(filepath.Join(s.Cwd, "state/ingot/runs/*/log"))
		if err != nil {
			t.Fatal(err)
		}
		if len(logs) == 1 {
			if text, err := os.ReadFile(logs[0]); err != nil {
				t.Fatal(err)
			} else if bytes.Contains(text, []byte("run-ended")) {
				return
			}
		}
		if err := poll.Sleep(wait, 5*time.Millisecond); err != nil {
			t.Fatal("the run does not end")
		}
	}
}

func TestSignals(t *testing.T) {
	ctx, later, stop := Signals(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if i := (*InterruptError)(nil); !errors.As(context.Cause(ctx), &i) || i.Error() != "received terminated" {
		t.Errorf("cause %v", context.Cause(ctx))
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-later.Abort
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-later.Kill
}

func TestNoHome(t *testing.T) {
	var out buffer
	s := testStreams(t, &out)
	s.Env = []string{"XDG_STATE_HOME=relative"}
	benchTemplate(t, s.Cwd, "")
	if code := Main(t.Context(), s, benches(nil), []string{"build", "."}); code != 1 || !strings.Contains(out.String(), "Set HOME or XDG_STATE_HOME") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
}

func TestComplete(t *testing.T) {
	for line, want := range map[string]string{
		"ingot ":                  strings.Join((&app{commands: commands()}).names(), " "),
		"ingot b":                 "build",
		"ingot -auto":             "-autocomplete-install -autocomplete-uninstall",
		"ingot build -on":         "-on-error= -only=",
		"ingot build --on-e":      "--on-error=",
		"ingot build -on-error=":  "cleanup abort ask run-cleanup-provisioner",
		"ingot build -on-error=a": "abort ask",
		"ingot build -color=":     "true false",
		"ingot build web":         "",
		"ingot fmt -":             "-check -diff -help -machine-readable -recursive -write",
		"ingot completion ":       "bash zsh fish",
		"ingot nothing -":         "",
		"ingot plugins ":          "installed required install remove",
		"ingot plan -j":           "-json",
		"ingot":                   "",
	} {
		var out buffer
		s := testStreams(t, &out)
		s.Env = []string{"COMP_LINE=" + line}
		if code := Main(t.Context(), s, nothing, nil); code != 0 {
			t.Errorf("%q: exit code %d", line, code)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	var out buffer
	s := testStreams(t, &out)
	s.Env = []string{"COMP_LINE=ingot build -on-error=as", "COMP_SHELL=fish"}
	Main(t.Context(), s, nothing, nil)
	if out.String() != "-on-error=ask\n" {
		t.Errorf("fish: %q", &out)
	}
}

func TestInstallCompletion(t *testing.T) {
	var out buffer
	s := testStreams(t, &out)
	if code := Main(t.Context(), s, nothing, []string{"-autocomplete-install"}); code != 1 {
		t.Errorf("without a shell: exit code %d", code)
	}
	write(t, s.Cwd, ".bashrc", "alias x=y") // no line end
	write(t, s.Cwd, ".zshrc", "compinit\n")
	write(t, s.Cwd, ".config/fish/config.fish", "")
	for range 2 {
		if code := Main(t.Context(), s, nothing, []string{"-autocomplete-install"}); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, &out)
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(s.Cwd, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got, want := read(".bashrc"), "alias x=y\ncomplete -o bashdefault -o default -o nospace -C /usr/bin/ingot ingot\n"; got != want {
		t.Errorf(".bashrc: %q", got)
	}
	if got, want := read(".zshrc"), "compinit\nsource <(/usr/bin/ingot completion zsh)\n"; got != want {
		t.Errorf(".zshrc: %q", got)
	}
	if !strings.Contains(read(".config/fish/completions/ingot.fish"), "(/usr/bin/ingot)") {
		t.Error("fish is not told the program")
	}
	if code := Main(t.Context(), s, nothing, []string{"-autocomplete-uninstall"}); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := read(".bashrc") + read(".zshrc"); got != "alias x=y\ncompinit\n" {
		t.Errorf("after uninstall: %q", got)
	}
	if _, err := os.Stat(filepath.Join(s.Cwd, ".config/fish/completions/ingot.fish")); err == nil {
		t.Error("the fish script is still there")
	}
}

func TestPrinted(t *testing.T) {
	for want, v := range map[string]cty.Value{
		"text":        cty.StringVal("text"),
		"1.5":         cty.NumberFloatVal(1.5),
		"true":        cty.True,
		"null":        cty.NullVal(cty.String),
		"<unknown>":   cty.UnknownVal(cty.String),
		"<sensitive>": hcl.MarkSensitive(cty.StringVal("x")),
		"[]":          cty.EmptyTupleVal,
		"{}":          cty.EmptyObjectVal,
		"[\n  \"a\",\n  [\n    1,\n  ],\n]": cty.TupleVal([]cty.Value{
			cty.StringVal("a"), cty.TupleVal([]cty.Value{cty.NumberIntVal(1)}),
		}),
		"{\n  \"a\" = \"x\"\n  \"b\" = <sensitive>\n}": cty.ObjectVal(map[string]cty.Value{
			"b": hcl.MarkSensitive(cty.True), "a": cty.StringVal("x"),
		}),
	} {
		if got := printed(v); got != want {
			t.Errorf("%#v: %q, want %q", v, got, want)
		}
	}
	if got := printed(cty.NilVal); got != "<unknown>" {
		t.Error(got)
	}
}
