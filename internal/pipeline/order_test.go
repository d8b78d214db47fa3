package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/provisioner"
)

// named is a build in a yard of its own that writes its name, and comes after
// others.
func named(t *testing.T, name string, after ...string) (*yard, Build) {
	y, b := newYard(t)
	b.Info.Build, b.After = name, after
	b.Provisioners = []Provisioner{(&step{text: name}).plan()}
	return y, b
}

// using makes b write what the builds before it made.
func using(b Build) Build {
	b.Complete = func(made map[string][]artifact.Set) (Build, error) {
		var text []string
		for name, sets := range made {
			text = append(text, name+"="+filepath.Base(sets[0].Files[0]))
		}
		slices.Sort(text)
		b.Provisioners = []Provisioner{(&step{text: strings.Join(text, " ")}).plan()}
		return b, nil
	}
	return b
}

// began lists the builds in the order they began.
func (c *collect) began() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.recs {
		if _, ok := r.Event.(event.BuildStarted); ok {
			out = append(out, r.Build)
		}
	}
	return out
}

func (y *yard) image(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(y.dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestBuildsComeAfterThoseTheyDependOn(t *testing.T) {
	for _, parallel := range []int{0, 1, 2} {
		y, last := named(t, "last", "mid", "base", "elsewhere")
		_, mid := named(t, "mid", "base")
		_, base := named(t, "base")
		_, free := named(t, "free")
		c := &collect{}
		res, _ := run(t, t.Context(), c, Options{Parallel: parallel}, using(last), mid, base, free)
		for _, b := range res.Builds {
			if b.Err != nil {
				t.Fatalf("%s: %v", b.Build, b.Err)
			}
		}
		if got := y.image(t); got != "base=image mid=image" {
			t.Errorf("the last build was given %q", got)
		}
		order := c.began()
		if at := func(n string) int { return slices.Index(order, n) }; at("base") > at("mid") || at("mid") > at("last") || len(order) != 4 {
			t.Errorf("began: %v", order)
		}
		if parallel == 1 && !slices.Equal(order, []string{"base", "mid", "last", "free"}) {
			t.Errorf("one at a time, began: %v", order)
		}
		if res.Builds[0].Build != "last" || res.Builds[3].Build != "free" {
			t.Errorf("results are not in the plan's order: %v", res.Builds)
		}
	}
}

// A meet is a provisioner that waits until so many are in it.
type meet struct {
	*step
	in  chan struct{}
	out chan struct{}
}

func (m meet) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	select {
	case m.in <- struct{}{}:
		select {
		case <-m.out:
		case <-ctx.Done():
		}
	case <-m.in:
		m.out <- struct{}{}
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func TestFreeBuildsRunAtOnce(t *testing.T) {
	m := meet{&step{}, make(chan struct{}), make(chan struct{})}
	_, base := named(t, "base")
	_, a := named(t, "a", "base")
	_, b := named(t, "b", "base")
	for _, x := range []*Build{&a, &b} {
		x.Provisioners = []Provisioner{{Type: "meet", Open: func(communicator.Data) (provisioner.Provisioner, error) { return m, nil }}}
	}
	res, _ := run(t, t.Context(), &collect{}, Options{}, a, b, base)
	for _, r := range res.Builds {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
}

func TestAFailedBuildSkipsItsDependants(t *testing.T) {
	base, b := named(t, "base")
	base.failAt, base.failFor = "capture", 1
	mid, m := named(t, "mid", "base")
	last, l := named(t, "last", "mid")
	free, f := named(t, "free")
	l = using(l)
	life := newLife(t)
	res := life.run(t, t.Context(), l, m, b, f)
	for i, want := range []string{
		"not begun: build mid, which it depends on, did not succeed",
		"not begun: build base, which it depends on, did not succeed",
		"capture: no luck",
	} {
		if err := res.Builds[i].Err; err == nil || err.Error() != want || res.Builds[i].Partial || res.Builds[i].Cancelled {
			t.Errorf("%s: %+v, want %q", res.Builds[i].Build, res.Builds[i], want)
		}
	}
	if res.Builds[3].Err != nil || !free.has("image") {
		t.Errorf("the free build: %v", res.Builds[3].Err)
	}
	if mid.has("vm") || mid.has("image") || last.has("image") {
		t.Error("a skipped build did something")
	}
	st, err := ReadStatus(life.dir())
	if err != nil || st.Builds[1].String() != "no image yet; not begun: build base, which it depends on, did not succeed" {
		t.Errorf("status %v %v", st.Builds, err)
	}

	// Resume goes through with it, and makes nothing twice.
	res = life.resume(t, l, m, b, f)
	for _, r := range res.Builds {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Build, r.Err)
		}
	}
	if got := last.image(t); got != "mid=image" {
		t.Errorf("the last build was given %q", got)
	}
	if n := life.kinds(t)[journal.KindSealed]; n != 4 {
		t.Errorf("%d images were sealed", n)
	}
}

func TestArtifactsComeFromTheJournal(t *testing.T) {
	_, b := named(t, "base")
	last, l := named(t, "last", "base")
	last.failAt, last.failFor = "connect", 1
	l = using(l)
	life := newLife(t)
	if res := life.run(t, t.Context(), b, l); res.Builds[0].Err != nil || res.Builds[1].Err == nil {
		t.Fatalf("%+v", res)
	}
	b.Open = func(builder.Info) (builder.Builder, error) { return nil, errors.New("it is made already") }
	if res := life.resume(t, b, l); res.Builds[0].Err != nil || res.Builds[1].Err != nil {
		t.Fatalf("%+v", res)
	}
	if got := last.image(t); got != "base=image" {
		t.Errorf("the build was given %q", got)
	}
}

func TestMissingCopiesHoldDependantsBack(t *testing.T) {
	f, life := newFleet(t), newLife(t)
	f.down["eu"] = errors.New("no such region")
	_, b := named(t, "last", "fleet.x")
	res := life.run(t, t.Context(), f.build(), b)
	if !res.Builds[0].Partial || !res.Builds[1].Partial || res.Builds[1].Err == nil {
		t.Fatalf("%+v", res.Builds)
	}
	f.down = map[string]error{}
	for _, r := range life.resume(t, f.build(), b).Builds {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
}

func TestValuesThatDoNotFitEndTheBuild(t *testing.T) {
	_, base := named(t, "base")
	y, b := named(t, "b", "base")
	b.Complete = func(map[string][]artifact.Set) (Build, error) { return Build{}, errors.New("the image has no name") }
	res, _ := run(t, t.Context(), &collect{}, Options{}, base, b)
	if err := res.Builds[1].Err; err == nil || err.Error() != "the image has no name" || res.Builds[1].Build != "b" || y.has("vm") {
		t.Errorf("%+v", res.Builds[1])
	}
}

func TestACircleEnds(t *testing.T) {
	_, a := named(t, "a", "b")
	_, b := named(t, "b", "a")
	_, free := named(t, "free")
	res, _ := run(t, t.Context(), &collect{}, Options{}, a, b, free)
	if !errors.Is(res.Builds[0].Err, errCircle) || !errors.Is(res.Builds[1].Err, errCircle) || res.Builds[2].Err != nil {
		t.Errorf("%+v", res)
	}
}

func TestInterruptedBuildsSkipNobody(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("received interrupt")
	cancel(why)
	_, base := named(t, "base")
	_, b := named(t, "b", "base")
	res, _ := run(t, ctx, &collect{}, Options{}, using(b), base)
	for _, r := range res.Builds {
		if !r.Cancelled || !errors.Is(r.Err, why) {
			t.Errorf("%+v", r)
		}
	}
}
