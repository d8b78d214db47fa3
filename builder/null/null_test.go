package null

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/buildertest"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

var info = builder.Info{Name: "n", Type: "null"}

func nothing() []string { return nil }

func conformance(t *testing.T, c communicator.Config, use func(ctx context.Context, g communicator.Guest) error) {
	buildertest.Run(t, buildertest.Config{
		Open: func(t *testing.T) (builder.Builder, builder.Info) {
			b, err := Driver().Open(&Config{c}, info)
			if err != nil {
				t.Fatal(err)
			}
			return b, info
		},
		Leftovers: nothing,
		Provision: use,
		Timeout:   provisionertest.Patience,
	})
}

func TestWithoutConnection(t *testing.T) {
	conformance(t, communicator.Config{Communicator: "none"}, func(ctx context.Context, g communicator.Guest) error {
		if g.Data.ID != "Null" || g.Data.ConnType != "none" {
			t.Errorf("%+v", g.Data)
		}
		if err := g.Run(ctx, communicator.Cmd{Line: "true"}); !errors.Is(err, communicator.ErrNoConnection) {
			return err
		}
		return nil
	})
}

func TestOverSSH(t *testing.T) {
	s := provisionertest.Start(t)
	conformance(t, s.Config(), func(ctx context.Context, g communicator.Guest) error {
		d := g.Data
		if d.ID != "Null" || d.ConnType != "ssh" || d.Port != s.Port || d.User != "root" || d.KeyFile != s.KeyFile || d.SSHPrivateKey.Reveal() != s.Key.Reveal() {
			t.Errorf("%+v", d)
		}
		var out bytes.Buffer
		if err := g.Run(ctx, communicator.Cmd{Line: "echo there", Stdout: &out}); err != nil || out.String() != "there\n" {
			t.Errorf("%q %v", out.String(), err)
		}
		return nil
	})
}

func TestOpenReportsEveryFault(t *testing.T) {
	key := secret.New("x")
	for name, c := range map[string]struct {
		cfg  communicator.Config
		want []string // of the faults that are the null builder's own
	}{
		"nothing":   {communicator.Config{}, []string{"ssh_host", "ssh_password", "ssh_username"}},
		"two ways":  {communicator.Config{SSHHost: "h", SSHUsername: "u", SSHPassword: key, SSHAgentAuth: true}, []string{"ssh_password"}},
		"winrm":     {communicator.Config{Communicator: "winrm"}, []string{"winrm_host", "winrm_password", "winrm_username"}},
		"none":      {communicator.Config{Communicator: "none"}, nil},
		"something": {communicator.Config{SSHHost: "h", SSHUsername: "u", SSHPassword: key}, nil},
	} {
		_, err := Driver().Open(&Config{c.cfg}, info)
		var got []string
		for _, e := range diag.Flatten(err) {
			var f *diag.FieldError
			if !errors.As(e, &f) {
				t.Fatalf("%s: %v is not about an option", name, e)
			}
			got = append(got, f.Paths[0])
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: faults in %q, want %q", name, got, c.want)
		}
	}
}

func TestWinRM(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	s := winrmtest.Start(t, winrmtest.Options{})
	b, err := open(Config{s.Config()}, info)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := b.(*builder.Machine[state])
	if !ok {
		t.Fatal("not a machine")
	}
	g, err := m.Connect(ctx, &builder.Run{Events: event.Discard}, new(state))
	if err != nil {
		t.Fatal(err)
	}
	if g.Data.ConnType != "winrm" || g.Data.Port != s.Port || g.Data.WinRMPassword.IsEmpty() {
		t.Errorf("%+v", g.Data)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
