package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/postprocessor"
)

// keeps reports whether p's input survives p.
func (p PostProcessor) keeps() bool {
	switch {
	case p.Keep == postprocessor.ForceInput:
		return true
	case p.KeepInput != nil:
		return *p.KeepInput
	}
	return p.Keep == postprocessor.KeepInput
}

// postProcess runs the chains, each from set, and returns what is kept. A
// failure ends its own chain only. Inputs that are not kept are removed when
// every chain has succeeded: after a failure everything made so far stays.
func (w *work) postProcess(ctx context.Context, set artifact.Set, d communicator.Data) ([]artifact.Set, error) {
	var kept, dropped []artifact.Set
	var errs []error
	first := len(w.PostProcessors) == 0
	for n, chain := range w.PostProcessors {
		first = first || chain[0].keeps()
		in := set
		for i, p := range chain {
			out, err := w.process(ctx, p, fmt.Sprintf("post-processor %d.%d (%s)", n+1, i+1, p.Type), in, d)
			if err != nil {
				errs = append(errs, fmt.Errorf("post-processor %s: %w", p.Type, err))
				break
			}
			if i > 0 && p.keeps() {
				kept = append(kept, in)
			} else if i > 0 {
				dropped = append(dropped, in)
			}
			if in = out; in.Empty {
				break
			}
			if i == len(chain)-1 {
				kept = append(kept, in)
			}
		}
	}
	if len(errs) > 0 {
		return slices.Concat([]artifact.Set{set}, dropped, kept), errors.Join(errs...)
	}
	if set.Empty {
		return kept, nil
	}
	if first {
		kept = append([]artifact.Set{set}, kept...)
	} else {
		dropped = append(dropped, set)
	}
	return kept, removeDropped(dropped, kept)
}

// process runs p, which the journal knows as place. What an earlier process
// did is not done again.
func (w *work) process(ctx context.Context, p PostProcessor, place string, in artifact.Set, d communicator.Data) (artifact.Set, error) {
	if made, ok := w.past.processed[place]; ok {
		return made, nil
	}
	if err := context.Cause(ctx); err != nil {
		return artifact.Set{}, err
	}
	step := "post-processor " + p.Type
	out := w.opts.Events.ForComponent(w.Info.Build, p.Type)
	w.out.Emit(event.StepStarted{Name: step})
	w.out.Emit(event.Say{Text: fmt.Sprintf("Running post-processor: %s (type %s)", p.Name, p.Type)})
	start := w.opts.Now()
	res, err := func() (artifact.Set, error) {
		pp, err := p.Open(postprocessor.Build{
			Name: w.Info.Name, BuilderType: w.Info.Type, RunID: w.Info.RunID, Force: w.Info.Force, Data: plain(d),
		}, d)
		if err != nil {
			return artifact.Set{}, err
		}
		return pp.Process(ctx, in.Clone(), out)
	}()
	w.out.Emit(event.StepEnded{Name: step, Elapsed: w.opts.Now().Sub(start), Failed: err != nil})
	if err != nil {
		return artifact.Set{}, err
	}
	return res, w.run.Record(journal.KindProcessed, place, res)
}

// plain returns what options rendered late may use of build.*: no secrets.
func plain(d communicator.Data) map[string]string {
	m := map[string]string{
		"ID": d.ID, "Host": d.Host, "Port": strconv.Itoa(d.Port), "User": d.User, "ConnType": d.ConnType,
		"PackerRunUUID": d.RunID, "SSHPublicKey": d.SSHPublicKey,
		"BuildName": d.BuildName, "BuilderType": d.BuilderType,
	}
	if d.HTTPIP != "" {
		m["PackerHTTPIP"], m["PackerHTTPPort"] = d.HTTPIP, strconv.Itoa(d.HTTPPort)
		m["PackerHTTPAddr"] = d.HTTPIP + ":" + strconv.Itoa(d.HTTPPort)
	}
	for k, v := range d.Generated {
		m[k] = v
	}
	return m
}

// removeDropped removes the files of sets, except those that a kept set names,
// and the folders that existed only for them.
func removeDropped(sets, kept []artifact.Set) error {
	stays := map[string]bool{}
	for _, k := range kept {
		for _, f := range k.Files {
			stays[f] = true
		}
	}
	var errs []error
	for _, s := range sets {
		for _, f := range s.Files {
			if stays[f] {
				continue
			}
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove input artifact: %w", err))
			}
		}
		if s.Dir != "" {
			_ = os.Remove(s.Dir) // fails while something else is in it, and is right to
		}
	}
	return errors.Join(errs...)
}
