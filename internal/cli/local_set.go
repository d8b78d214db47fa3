package cli

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localcloud"
)

// A setting of the local cloud is read and written as text.
type localSetting struct {
	name, about string
	get         func(*localcloud.Settings) string
	set         func(*localcloud.Settings, string) error
}

func durationSetting(name, about string, at func(*localcloud.Settings) *time.Duration) localSetting {
	return localSetting{
		name, about,
		func(s *localcloud.Settings) string { return at(s).String() },
		func(s *localcloud.Settings, text string) error {
			d, err := time.ParseDuration(text)
			if err != nil || d < 0 {
				return fmt.Errorf("%q is not a time such as 20s", text)
			}
			*at(s) = d
			return nil
		},
	}
}

func localSettings() []localSetting {
	return []localSetting{
		durationSetting("image-pending", "until an image is available", func(s *localcloud.Settings) *time.Duration { return &s.ImagePending }),
		durationSetting("copy-pending", "until a copy is available", func(s *localcloud.Settings) *time.Duration { return &s.CopyPending }),
		durationSetting("snapshot-pending", "until a snapshot is completed", func(s *localcloud.Settings) *time.Duration { return &s.SnapshotPending }),
		durationSetting("start-time", "for which an instance is pending", func(s *localcloud.Settings) *time.Duration { return &s.StartTime }),
		durationSetting("stop-time", "for which an instance is stopping", func(s *localcloud.Settings) *time.Duration { return &s.StopTime }),
		{
			"copy-fails", "REGION:REASON,… copies that are accepted and fail at their end",
			func(s *localcloud.Settings) string {
				var out []string
				for _, r := range slices.Sorted(maps.Keys(s.CopyFails)) {
					out = append(out, r+":"+s.CopyFails[r])
				}
				return strings.Join(out, ",")
			},
			func(s *localcloud.Settings, text string) error {
				s.CopyFails = map[string]string{}
				for _, part := range words(text) {
					region, reason, _ := strings.Cut(part, ":")
					if err := checkRegion(region); err != nil {
						return err
					}
					s.CopyFails[region] = or(reason, "the copy failed, as asked for")
				}
				return nil
			},
		},
		{
			"no-capacity", "TYPE, ZONE/TYPE or either with /spot,… that cannot be launched",
			func(s *localcloud.Settings) string { return strings.Join(s.NoCapacity, ",") },
			func(s *localcloud.Settings, text string) error {
				s.NoCapacity = words(text)
				return nil
			},
		},
		{
			"instance-limit", "instances a region may have; 0 is any number",
			func(s *localcloud.Settings) string { return strconv.Itoa(s.InstanceLimit) },
			func(s *localcloud.Settings, text string) error {
				n, err := strconv.Atoi(text)
				if err != nil || n < 0 {
					return fmt.Errorf("%q is not a number of instances", text)
				}
				s.InstanceLimit = n
				return nil
			},
		},
	}
}

// words are the parts between commas, without empty ones.
func words(list string) (out []string) {
	for w := range strings.SplitSeq(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

func localSet() *command {
	var names strings.Builder
	for _, s := range localSettings() {
		fmt.Fprintf(&names, "\n    %-17s %s", s.name, s.about)
	}
	return &command{
		name:     "local set",
		args:     "[NAME=VALUE ...]",
		synopsis: "how long things take in it, and what fails late",
		about: `Changes settings of the local cloud, and prints them without arguments:
			` + names.String(),
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int { return a.failed(a.localSet(ctx, args)) }
		},
	}
}

func (a *app) localSet(ctx context.Context, args []string) error {
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	s, err := c.Settings(ctx)
	if err != nil {
		return err
	}
	all := localSettings()
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		i := slices.IndexFunc(all, func(l localSetting) bool { return l.name == name })
		if i < 0 {
			return diag.WithHint(fmt.Errorf("there is no setting %q", name), "%s local set -help lists them", programName)
		}
		if err := all[i].set(&s, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(args) > 0 {
		return c.SetSettings(ctx, s)
	}
	rows := [][]string{{"NAME", "VALUE"}}
	for _, l := range all {
		rows = append(rows, []string{l.name, or(l.get(&s), "-")})
	}
	a.table(rows)
	return nil
}
