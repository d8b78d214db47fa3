package artifice

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func TestArtifice(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, f := range []string{"a.box", "b.box", "c.txt"} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d := Driver(); d.Keep != postprocessor.KeepInput || d.Name != "artifice" {
		t.Errorf("%+v", d)
	}
	p, err := open(Config{Files: []string{"*.box", "c.txt", "b.box", "gone"}}, postprocessor.Build{})
	if err != nil {
		t.Fatal(err)
	}
	var out provisionertest.Events
	got, err := p.Process(t.Context(), artifact.Set{BuilderID: "x", ID: "VM", Files: []string{"old"}, Data: map[string]string{"k": "v"}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	want := artifact.Set{
		BuilderID: BuilderID, Text: "Created artifact from files: a.box, b.box, c.txt",
		Files: []string{"a.box", "b.box", "c.txt"}, Data: map[string]string{"k": "v"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !slices.ContainsFunc(out.All(), func(e event.Event) bool { _, ok := e.(event.Warn); return ok }) {
		t.Error("no warning about the pattern that matches nothing")
	}
	for _, files := range [][]string{nil, {"[x"}} {
		var f *diag.FieldError
		if _, err := open(Config{Files: files}, postprocessor.Build{}); !errors.As(err, &f) {
			t.Errorf("%q: %v", files, err)
		}
	}
}
