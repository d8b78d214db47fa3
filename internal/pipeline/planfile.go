package pipeline

import (
	"encoding/json"
	"fmt"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// planFormat is the version of plan.json.
const planFormat = 1

type planFile struct {
	Format  int         `json:"format"`
	Version string      `json:"version"`
	Run     string      `json:"run"`
	OnError OnError     `json:"on_error"`
	Builds  []planBuild `json:"builds"`
}

type planBuild struct {
	Name           string     `json:"name"`
	Type           string     `json:"type"`
	Source         string     `json:"source"`
	After          []string   `json:"after,omitempty"`
	Provisioners   []string   `json:"provisioners,omitempty"`
	ErrorCleanup   string     `json:"error_cleanup_provisioner,omitempty"`
	PostProcessors [][]string `json:"post_processors,omitempty"`
}

// writePlan puts what will be done beside the journal. Options are left out:
// they may hold secrets.
func writePlan(path string, p *Plan, o Options) error {
	f := planFile{Format: planFormat, Version: o.Version, Run: o.RunID, OnError: o.OnError}
	for _, b := range p.Builds {
		pb := planBuild{Name: b.Info.Build, Type: b.Info.Type, Source: b.Info.Name, After: b.After}
		for _, s := range b.Provisioners {
			pb.Provisioners = append(pb.Provisioners, s.Type)
		}
		if b.ErrorCleanup != nil {
			pb.ErrorCleanup = b.ErrorCleanup.Type
		}
		for _, chain := range b.PostProcessors {
			var types []string
			for _, s := range chain {
				types = append(types, s.Type)
			}
			pb.PostProcessors = append(pb.PostProcessors, types)
		}
		f.Builds = append(f.Builds, pb)
	}
	js, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return atomicfile.Write(path, append(js, '\n'), 0o600)
}
