package file

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/builder"
)

// whereabouts is what the journal keeps of the options.
type whereabouts struct {
	Target string `json:"target"` // absolute
	Base   string `json:"base"`   // the working directory
}

func (b build) where(context.Context) (any, error) {
	base, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	target, err := filepath.Abs(b.Target)
	return whereabouts{target, base}, err
}

func reopen(place json.RawMessage, _ builder.Info) (builder.Builder, error) {
	var w whereabouts
	if err := json.Unmarshal(place, &w); err != nil {
		return nil, fmt.Errorf("place of the build in the journal: %w", err)
	}
	return build{Config: Config{Target: w.Target}, base: w.Base}.machine(), nil
}

func (b build) holds(r *builder.Run, s *state) []builder.Thing {
	out := []builder.Thing{{Kind: "file", ID: b.Target, Step: "write"}}
	if s.Previous {
		out = append(out, builder.Thing{Kind: "file that was there before", ID: b.aside(r), Step: "set-aside"})
	}
	return out
}
