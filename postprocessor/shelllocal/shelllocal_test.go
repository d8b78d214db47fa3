package shelllocal

import (
	"reflect"
	"slices"
	"testing"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/localshell"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func TestShellLocal(t *testing.T) {
	d := Driver()
	if d.Keep != postprocessor.ForceInput {
		t.Error("the input is not always kept")
	}
	b := postprocessor.Build{
		Name: "web", BuilderType: "qemu", RunID: "run-1",
		Data: map[string]string{"ID": "vm", "Zone": "b", "Port": "22", "PackerHTTPIP": "10.0.2.2", "PackerHTTPPort": "81"},
	}
	run := func(c localshell.Config) ([]string, artifact.Set, error) {
		t.Helper()
		pp, err := d.Open(&Config{c}, b)
		if err != nil {
			t.Fatal(err)
		}
		var out provisionertest.Events
		set, err := pp.Process(provisionertest.Context(t), artifact.Set{ID: "VM", Files: []string{"a"}}, &out)
		return out.Lines(false), set, err
	}
	got, set, err := run(localshell.Config{
		Inline:         []string{`echo "$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $PACKER_RUN_UUID $PACKER_HTTP_ADDR $1"`},
		ExecuteCommand: []string{"{{.Vars}} {{.Script}} {{.ID}}-{{.Zone}}-{{.Port}}"},
	})
	if err != nil || !slices.Equal(got, []string{"web qemu run-1 10.0.2.2:81 vm-b-22"}) {
		t.Errorf("%q %v", got, err)
	}
	if !reflect.DeepEqual(set, artifact.Set{ID: "VM", Files: []string{"a"}}) {
		t.Errorf("the artifact was changed: %+v", set)
	}
	if _, _, err := run(localshell.Config{Inline: []string{"false"}}); err == nil {
		t.Error("a failing script is no error")
	}
}
