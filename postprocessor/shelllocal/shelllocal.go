// Package shelllocal is the post-processor "shell-local": scripts that run on
// the machine Ingot runs on, after the image was made. The artifact goes
// through unchanged.
package shelllocal

import (
	"context"
	"maps"
	"strconv"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell"
	"github.com/ingot-build/ingot/postprocessor"
)

// Config is the options of the post-processor.
type Config struct{ localshell.Config }

// Driver returns the post-processor "shell-local". Its input is always kept.
func Driver() postprocessor.Driver {
	return postprocessor.NewDriver("shell-local", postprocessor.ForceInput, open)
}

type shellLocal struct {
	runner *localshell.Runner
	build  postprocessor.Build
}

var _ postprocessor.PostProcessor = (*shellLocal)(nil)

func open(c Config, b postprocessor.Build) (postprocessor.PostProcessor, error) {
	r, err := localshell.Open(c.Config)
	return &shellLocal{r, b}, err
}

// Process implements [postprocessor.PostProcessor].
func (s *shellLocal) Process(ctx context.Context, in artifact.Set, out event.Sink) (artifact.Set, error) {
	if err := s.runner.Run(ctx, data(s.build), out); err != nil {
		return artifact.Set{}, err
	}
	return in, nil
}

// data is what is left to know of the guest, which is gone.
func data(b postprocessor.Build) communicator.Data {
	d := communicator.Data{
		BuildName: b.Name, BuilderType: b.BuilderType, RunID: b.RunID,
		ID: b.Data["ID"], Host: b.Data["Host"], User: b.Data["User"], ConnType: b.Data["ConnType"],
		SSHPublicKey: b.Data["SSHPublicKey"], HTTPIP: b.Data["PackerHTTPIP"],
		Generated: maps.Clone(b.Data),
	}
	// What is not a number was not known to the builder either.
	d.Port, _ = strconv.Atoi(b.Data["Port"])
	d.HTTPPort, _ = strconv.Atoi(b.Data["PackerHTTPPort"])
	return d
}
