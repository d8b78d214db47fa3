// Package artifice is the post-processor "artifice": what follows works on
// other files than the builder's.
package artifice

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

// BuilderID is Packer's id of what this makes.
const BuilderID = "packer.post-processor.artifice"

// Config is the options of the post-processor.
type Config struct {
	Files []string `hcl:"files"` // patterns
}

// Driver returns the post-processor "artifice". Its input is kept unless
// keep_input_artifact says otherwise.
func Driver() postprocessor.Driver {
	return postprocessor.NewDriver("artifice", postprocessor.KeepInput, open)
}

type artifice struct{ files []string }

var _ postprocessor.PostProcessor = (*artifice)(nil)

func open(c Config, _ postprocessor.Build) (postprocessor.PostProcessor, error) {
	var errs []error
	if len(c.Files) == 0 {
		errs = append(errs, diag.Fieldf("files", "must name at least one file"))
	}
	for i, f := range c.Files {
		if _, err := filepath.Match(f, ""); err != nil {
			errs = append(errs, diag.Fieldf(fmt.Sprintf("files[%d]", i), "%q is not a pattern: %w", f, err))
		}
	}
	return &artifice{c.Files}, errors.Join(errs...)
}

// Process implements [postprocessor.PostProcessor].
func (a *artifice) Process(ctx context.Context, in artifact.Set, out event.Sink) (artifact.Set, error) {
	if err := context.Cause(ctx); err != nil {
		return artifact.Set{}, err
	}
	if len(in.Files) > 0 {
		out.Emit(event.Say{Text: "Discarding files from artifact: " + strings.Join(in.Files, ", ")})
	}
	set := artifact.Set{BuilderID: BuilderID, Data: in.Data}
	for _, pattern := range a.files {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return artifact.Set{}, fmt.Errorf("files %q: %w", pattern, err)
		}
		if len(found) == 0 {
			out.Emit(event.Warn{Text: fmt.Sprintf("No file matches %q.", pattern)})
		}
		for _, f := range found {
			if !slices.Contains(set.Files, f) {
				set.Files = append(set.Files, f)
			}
		}
	}
	list := strings.Join(set.Files, ", ")
	out.Emit(event.Say{Text: "Using these artifact files: " + list})
	set.Text = "Created artifact from files: " + list
	return set, nil
}
