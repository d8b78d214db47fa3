package pipeline

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner"
)

// A yard is a platform in a folder: a machine is a file "vm", an image a file
// "image" with what the provisioners wrote into the machine.
type yard struct {
	dir     string
	failAt  string // name of the step that fails
	failFor int    // so many times; -1: always
}

type yardState struct{ VM string }

func (y *yard) fail(step string) error {
	if y.failAt != step || y.failFor == 0 {
		return nil
	}
	y.failFor--
	return errors.New("no luck")
}

func (y *yard) open(builder.Info) (builder.Builder, error) {
	vm, img := filepath.Join(y.dir, "vm"), filepath.Join(y.dir, "image")
	return &builder.Machine[yardState]{
		Boots: []builder.Step[yardState]{{
			Name: "start",
			Do: func(_ context.Context, r *builder.Run, s *yardState) error {
				s.VM = vm
				if err := r.Save(); err != nil {
					return err
				}
				if err := os.WriteFile(vm, nil, 0o600); err != nil {
					return err
				}
				return y.fail("start")
			},
			Undo: func(_ context.Context, _ *builder.Run, s *yardState) error { return os.RemoveAll(s.VM) },
		}},
		Connect: func(_ context.Context, _ *builder.Run, s *yardState) (communicator.Guest, error) {
			return communicator.Guest{Communicator: &disk{path: s.VM}, Data: communicator.Data{ID: "vm-1"}}, y.fail("connect")
		},
		Seals: []builder.Step[yardState]{{
			Name: "capture", Product: true,
			Do: func(_ context.Context, _ *builder.Run, s *yardState) error {
				b, err := os.ReadFile(s.VM)
				if err != nil {
					return err
				}
				if err := os.WriteFile(img, b, 0o600); err != nil {
					return err
				}
				return y.fail("capture")
			},
			Undo: func(context.Context, *builder.Run, *yardState) error { return os.RemoveAll(img) },
		}},
		Result: func(context.Context, *builder.Run, *yardState) (artifact.Set, error) {
			return artifact.Set{BuilderID: "yard", ID: "img-1", Files: []string{img}}, nil
		},
	}, nil
}

func (y *yard) has(name string) bool {
	_, err := os.Stat(filepath.Join(y.dir, name))
	return err == nil
}

// A disk is a communicator that appends command lines to a file.
type disk struct {
	communicator.None
	path string
}

func (d *disk) Run(_ context.Context, c communicator.Cmd) error {
	f, err := os.OpenFile(d.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return &communicator.DisconnectError{Err: err}
	}
	_, err = io.WriteString(f, c.Line+"\n")
	return errors.Join(err, f.Close())
}

// A step is a provisioner that writes its text, and then fails so many times.
type step struct {
	text  string
	fails int
	block bool // wait for the end of ctx
}

func (s *step) Key(context.Context) (checkpoint.Key, error) {
	d := checkpoint.NewDigest("test")
	d.Text(s.text)
	return d.Key(), nil
}

func (s *step) Apply(ctx context.Context, g communicator.Guest, _ event.Sink) error {
	if err := g.Run(ctx, communicator.Cmd{Line: s.text}); err != nil {
		return err
	}
	if s.block {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if s.fails > 0 {
		s.fails--
		return errors.New("step failed")
	}
	return nil
}

func (s *step) plan() Provisioner {
	return Provisioner{Type: "test", Open: func(communicator.Data) (provisioner.Provisioner, error) { return s, nil }}
}

// post makes a file beside the image.
type post struct {
	out string
	err error
}

func (p post) Process(_ context.Context, in artifact.Set, _ event.Sink) (artifact.Set, error) {
	if p.err != nil {
		return artifact.Set{}, p.err
	}
	in.Files, in.ID = []string{p.out}, ""
	return in, os.WriteFile(p.out, nil, 0o600)
}

func (p post) plan(keep postprocessor.Keep) PostProcessor {
	return PostProcessor{Type: "post", Keep: keep, Open: func(postprocessor.Build, communicator.Data) (postprocessor.PostProcessor, error) { return p, nil }}
}

type collect struct {
	mu   sync.Mutex
	recs []event.Record
	say  string // the answer to every question; "" cannot answer
	saw  chan string
}

func (c *collect) CanAnswer() bool { return c.say != "" }
func (c *collect) Read(r event.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recs = append(c.recs, r)
	if q, ok := r.Event.(*event.Question); ok && c.say != "" {
		q.Answer(c.say, nil)
	}
	if s, ok := r.Event.(event.StepStarted); ok && c.saw != nil {
		c.saw <- s.Name
	}
}

func run(t *testing.T, ctx context.Context, c *collect, o Options, builds ...Build) (Result, []journal.Record) {
	t.Helper()
	o.RunID, o.StateDir, o.Now = "run-1", t.TempDir(), time.Now
	o.Events = event.NewBus(time.Now, nil, c)
	res, err := Run(ctx, &Plan{Builds: builds}, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Events.Close()
	_, recs, err := journal.Read(filepath.Join(o.StateDir, o.RunID))
	if err != nil {
		t.Fatal(err)
	}
	return res, recs
}

func newYard(t *testing.T) (*yard, Build) {
	y := &yard{dir: t.TempDir()}
	return y, Build{Info: builder.Info{Name: "x", Type: "yard", Build: "yard.x"}, Open: y.open}
}

func TestBuildSealsAndLeavesOnlyTheImage(t *testing.T) {
	y, b := newYard(t)
	b.Provisioners = []Provisioner{(&step{text: "one"}).plan(), (&step{text: "two"}).plan()}
	res, recs := run(t, t.Context(), &collect{}, Options{}, b)
	if err := res.Builds[0].Err; err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(filepath.Join(y.dir, "image"))
	if string(got) != "one\ntwo\n" || y.has("vm") {
		t.Errorf("image %q, machine left: %v", got, y.has("vm"))
	}
	var kinds []string
	for _, r := range recs {
		kinds = append(kinds, strings.TrimSpace(string(r.Kind)+" "+r.Step))
	}
	want := "run|begin start|state|state|done start|guest|provision provisioner 1 (test)|provision provisioner 2 (test)|begin capture|state|done capture|sealed|undo start|ended"
	if s := strings.Join(kinds, "|"); s != want {
		t.Errorf("journal\n %s\nwant\n %s", s, want)
	}
}

func TestFailureAtEveryStepLeavesNothing(t *testing.T) {
	for _, at := range []string{"start", "connect", "capture"} {
		y, b := newYard(t)
		y.failAt, y.failFor = at, -1
		res, _ := run(t, t.Context(), &collect{}, Options{}, b)
		if res.Builds[0].Err == nil || y.has("vm") || y.has("image") {
			t.Errorf("%s: err %v, vm %v, image %v", at, res.Builds[0].Err, y.has("vm"), y.has("image"))
		}
	}
}

func TestAbortLeavesTheMachine(t *testing.T) {
	y, b := newYard(t)
	b.Provisioners = []Provisioner{(&step{fails: 1}).plan()}
	res, _ := run(t, t.Context(), &collect{}, Options{OnError: Abort}, b)
	if res.Builds[0].Err == nil || !y.has("vm") {
		t.Errorf("err %v, machine %v", res.Builds[0].Err, y.has("vm"))
	}
}

func TestAsk(t *testing.T) {
	for answer, want := range map[string]struct{ failed, vm bool }{
		"c": {true, false}, "a": {true, true}, "r": {false, false},
	} {
		y, b := newYard(t)
		b.Provisioners = []Provisioner{(&step{fails: 1}).plan()}
		res, _ := run(t, t.Context(), &collect{say: answer}, Options{OnError: Ask}, b)
		if failed := res.Builds[0].Err != nil; failed != want.failed || y.has("vm") != want.vm {
			t.Errorf("%s: err %v, machine %v", answer, res.Builds[0].Err, y.has("vm"))
		}
	}
	// The same for a step of the builder.
	y, b := newYard(t)
	y.failAt, y.failFor = "connect", 1
	if res, _ := run(t, t.Context(), &collect{say: "r"}, Options{OnError: Ask}, b); res.Builds[0].Err != nil {
		t.Error(res.Builds[0].Err)
	}
}

func TestRetriesContinueAndErrorCleanup(t *testing.T) {
	y, b := newYard(t)
	retried := (&step{text: "r", fails: 2}).plan()
	retried.MaxRetries = 2
	passed := (&step{text: "p", fails: 1}).plan()
	passed.ContinueOnError = true
	b.Provisioners = []Provisioner{retried, passed}
	if res, _ := run(t, t.Context(), &collect{}, Options{}, b); res.Builds[0].Err != nil {
		t.Fatal(res.Builds[0].Err)
	}
	if got, _ := os.ReadFile(filepath.Join(y.dir, "image")); string(got) != "r\nr\nr\np\n" {
		t.Errorf("image %q", got)
	}

	y, b = newYard(t)
	b.Provisioners = []Provisioner{(&step{text: "bad", fails: 1}).plan()}
	ec := (&step{text: "swept"}).plan()
	b.ErrorCleanup = &ec
	res, _ := run(t, t.Context(), &collect{}, Options{OnError: RunCleanupProvisioner}, b)
	got, _ := os.ReadFile(filepath.Join(y.dir, "vm"))
	if res.Builds[0].Err == nil || string(got) != "bad\nswept\n" {
		t.Errorf("err %v, machine %q", res.Builds[0].Err, got)
	}
}

func TestTimeoutNamesItsLimit(t *testing.T) {
	_, b := newYard(t)
	p := (&step{block: true}).plan()
	p.Timeout = time.Millisecond
	b.Provisioners = []Provisioner{p}
	res, _ := run(t, t.Context(), &collect{}, Options{}, b)
	var late *TimeoutError
	if !errors.As(res.Builds[0].Err, &late) || late.Limit != time.Millisecond {
		t.Errorf("err %v", res.Builds[0].Err)
	}
}

func TestInterruptCleansUpAndStartsNoFurtherBuild(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	y1, b1 := newYard(t)
	b1.Provisioners = []Provisioner{(&step{block: true}).plan()}
	y2, b2 := newYard(t)
	b2.Info.Build = "yard.y"
	c := &collect{saw: make(chan string, 100)}
	why := errors.New("received interrupt")
	go func() {
		for name := range c.saw {
			if strings.HasPrefix(name, "provisioner") {
				cancel(why)
			}
		}
	}()
	res, _ := run(t, ctx, c, Options{Parallel: 1}, b1, b2)
	for i, y := range []*yard{y1, y2} {
		if r := res.Builds[i]; !r.Cancelled || !errors.Is(r.Err, why) || y.has("vm") || y.has("image") {
			t.Errorf("build %d: %+v, vm %v, image %v", i, r, y.has("vm"), y.has("image"))
		}
	}
}

func TestPostProcessorKeepRules(t *testing.T) {
	yes, no := true, false
	for name, tc := range map[string]struct {
		keep      postprocessor.Keep
		option    *bool
		keepInput bool
	}{
		"drops by default":      {postprocessor.DropInput, nil, false},
		"option keeps":          {postprocessor.DropInput, &yes, true},
		"keeps by default":      {postprocessor.KeepInput, nil, true},
		"option drops":          {postprocessor.KeepInput, &no, false},
		"forced against option": {postprocessor.ForceInput, &no, true},
	} {
		y, b := newYard(t)
		p := post{out: filepath.Join(y.dir, "made")}.plan(tc.keep)
		p.KeepInput = tc.option
		b.PostProcessors = [][]PostProcessor{{p}}
		res, _ := run(t, t.Context(), &collect{}, Options{}, b)
		want := 1
		if tc.keepInput {
			want = 2
		}
		if res.Builds[0].Err != nil || y.has("image") != tc.keepInput || len(res.Builds[0].Artifacts) != want || !y.has("made") {
			t.Errorf("%s: %+v, image %v", name, res.Builds[0], y.has("image"))
		}
	}
}

func TestAFailingPostProcessorCostsNoImage(t *testing.T) {
	y, b := newYard(t)
	b.PostProcessors = [][]PostProcessor{
		{post{err: errors.New("cannot")}.plan(postprocessor.DropInput)},
		{post{out: filepath.Join(y.dir, "made")}.plan(postprocessor.DropInput)},
	}
	res, _ := run(t, t.Context(), &collect{}, Options{}, b)
	if res.Builds[0].Err == nil || !y.has("image") || !y.has("made") || y.has("vm") || len(res.Builds[0].Artifacts) != 2 {
		t.Errorf("%+v", res.Builds[0])
	}
}
