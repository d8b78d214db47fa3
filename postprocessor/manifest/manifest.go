// Package manifest is the post-processor "manifest": a JSON file with an entry
// for every build that was made.
package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

const defaultOutput = "packer-manifest.json"

// Config is the options of the post-processor.
type Config struct {
	Output     string            `hcl:"output"`
	StripPath  bool              `hcl:"strip_path"`       // base names only
	StripTime  bool              `hcl:"strip_time"`       // no build_time
	CustomData map[string]string `hcl:"custom_data,late"` // the values are templates
}

// Driver returns the post-processor "manifest". Its input is always kept.
func Driver() postprocessor.Driver { return NewDriver(time.Now) }

// NewDriver is [Driver] with a clock.
func NewDriver(now func() time.Time) postprocessor.Driver {
	return postprocessor.NewDriver("manifest", postprocessor.ForceInput,
		func(c Config, b postprocessor.Build) (postprocessor.PostProcessor, error) { return open(c, b, now) })
}

type manifest struct {
	cfg    Config
	build  postprocessor.Build
	custom map[string]*template.Template
	now    func() time.Time
}

var _ postprocessor.PostProcessor = (*manifest)(nil)

func open(c Config, b postprocessor.Build, now func() time.Time) (postprocessor.PostProcessor, error) {
	if c.Output == "" {
		c.Output = defaultOutput
	}
	m := &manifest{cfg: c, build: b, now: now}
	var errs []error
	if c.CustomData != nil {
		m.custom = map[string]*template.Template{}
	}
	for k, v := range c.CustomData {
		t, err := template.New(k).Option("missingkey=error").Funcs(template.FuncMap{"build": m.value}).Parse(v)
		if err != nil {
			errs = append(errs, diag.Fieldf("custom_data", "%s is not a template: %w", k, err))
		}
		m.custom[k] = t
	}
	return m, errors.Join(errs...)
}

// value is the template function build.
func (m *manifest) value(name string) (string, error) {
	v, ok := m.build.Data[name]
	if !ok {
		return "", fmt.Errorf("the builder gives no value %q", name)
	}
	return v, nil
}

// The file, in Packer's form. The order of the fields is part of it.
type (
	document struct {
		Builds      []entry `json:"builds"`
		LastRunUUID string  `json:"last_run_uuid"`
	}
	entry struct {
		Name          string            `json:"name"`
		BuilderType   string            `json:"builder_type"`
		BuildTime     int64             `json:"build_time,omitempty"` // Unix seconds
		Files         []fileEntry       `json:"files"`
		ArtifactID    string            `json:"artifact_id"`
		PackerRunUUID string            `json:"packer_run_uuid"`
		CustomData    map[string]string `json:"custom_data"`
	}
	fileEntry struct {
		Name string `json:"name"`
		Size int64  `json:"size"` // bytes
	}
)

// Process implements [postprocessor.PostProcessor]. It hands its input on. The
// file is replaced as a whole, under a lock, so that parallel builds and other
// processes may write the same one.
func (m *manifest) Process(ctx context.Context, in artifact.Set, out event.Sink) (_ artifact.Set, err error) {
	e, err := m.entry(in)
	if err != nil {
		return artifact.Set{}, err
	}
	l, err := acquire(ctx, m.cfg.Output+".lock", out)
	if err != nil {
		return artifact.Set{}, fmt.Errorf("manifest %s: %w", m.cfg.Output, err)
	}
	err = m.add(e)
	if err := errors.Join(err, l.release()); err != nil {
		return artifact.Set{}, err
	}
	return in, nil
}

func (m *manifest) entry(in artifact.Set) (entry, error) {
	e := entry{
		Name: m.build.Name, BuilderType: m.build.BuilderType, BuildTime: m.now().Unix(),
		ArtifactID: in.ID, PackerRunUUID: m.build.RunID,
	}
	if m.cfg.StripTime {
		e.BuildTime = 0
	}
	for _, name := range in.Files {
		f := fileEntry{Name: name}
		if fi, err := os.Stat(name); err == nil { // a file that is gone has no size
			f.Size = fi.Size()
		}
		if m.cfg.StripPath {
			f.Name = filepath.Base(name)
		}
		e.Files = append(e.Files, f)
	}
	if m.custom != nil {
		e.CustomData = map[string]string{}
	}
	for k, t := range m.custom {
		var b strings.Builder
		if err := t.Execute(&b, m.build.Data); err != nil {
			return e, diag.WithHint(fmt.Errorf("custom_data %s: %w", k, err), "it may name the values of build.*: %s", strings.Join(m.names(), ", "))
		}
		e.CustomData[k] = b.String()
	}
	return e, nil
}

func (m *manifest) names() (names []string) {
	for k := range m.build.Data {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func (m *manifest) add(e entry) error {
	path := m.cfg.Output
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("manifest: %w", err)
	}
	var doc document
	if len(bytes.TrimSpace(old)) > 0 {
		if err := json.Unmarshal(old, &doc); err != nil {
			return diag.WithHint(fmt.Errorf("manifest %s is not one: %w", path, err), "move the file away or choose another output")
		}
	}
	if m.build.Force && doc.LastRunUUID != m.build.RunID {
		doc = document{}
	}
	doc.Builds = append(doc.Builds, e)
	doc.LastRunUUID = m.build.RunID
	js, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("manifest %s: %w", path, err)
	}
	mode := fs.FileMode(0o644)
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode().Perm()
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to // what a link leads to is replaced, not the link
	}
	return atomicfile.Write(path, js, mode)
}
