package shelllocal

import (
	"slices"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/localshell"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func TestShellLocal(t *testing.T) {
	d := Driver()
	cfg := d.Config().(*Config)
	cfg.Config = localshell.Config{Inline: []string{`echo "$PACKER_BUILD_NAME on $PACKER_BUILDER_TYPE"`}}
	p, err := d.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := p.Key(t.Context()); err != nil || !k.IsZero() {
		t.Errorf("key %s %v", k, err)
	}
	var out provisionertest.Events
	g := communicator.Guest{Communicator: communicator.None{}, Data: communicator.Data{BuildName: "web", BuilderType: "null"}}
	if err := p.Apply(provisionertest.Context(t), g, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.Lines(false); !slices.Equal(got, []string{"web on null"}) {
		t.Errorf("%q", got)
	}
}
