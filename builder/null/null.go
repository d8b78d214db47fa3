// Package null is the builder "null": it makes nothing and connects to a
// machine that is there already, to run provisioners on it.
package null

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/connect"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// BuilderID is Packer's id of what this makes.
const BuilderID = "fnoeding.null"

// Config is the options of the builder.
type Config struct{ communicator.Config }

// Driver returns the builder "null".
func Driver() builder.Driver { return builder.NewDriver("null", open) }

// A state is empty: nothing is made.
type state struct{}

type build struct{ cfg communicator.Config }

func open(c Config, _ builder.Info) (builder.Builder, error) {
	b := build{c.Config}
	err := b.cfg.Prepare()
	switch b.cfg.Communicator {
	case "ssh":
		err = errors.Join(err, b.checkSSH())
	case "winrm":
		if b.cfg.WinRMHost == "" {
			err = errors.Join(err, diag.Fieldsf([]string{"winrm_host", "communicator"}, "must be set: the null builder makes no machine"))
		}
		if b.cfg.WinRMPassword.IsEmpty() {
			err = errors.Join(err, diag.Fieldsf([]string{"winrm_password", "communicator"}, "must be set: the null builder knows no password of its own"))
		}
	}
	return &builder.Machine[state]{Connect: b.connect, Result: result}, err
}

func (b build) checkSSH() error {
	c := b.cfg
	var errs []error
	if c.SSHHost == "" {
		errs = append(errs, diag.Fieldsf([]string{"ssh_host", "communicator"}, "must be set: the null builder makes no machine"))
	}
	ways := []string{"ssh_password", "ssh_private_key_file", "ssh_agent_auth"}
	n := 0
	for _, set := range []bool{!c.SSHPassword.IsEmpty(), c.SSHPrivateKeyFile != "", c.SSHAgentAuth} {
		if set {
			n++
		}
	}
	switch {
	case n == 0 && len(c.SSHPrivateKey) == 0:
		errs = append(errs, diag.Fieldsf(append(ways, "ssh_private_key"), "one of ssh_password, ssh_private_key_file and ssh_agent_auth must be set"))
	case n > 1:
		errs = append(errs, diag.Fieldsf(ways, "only one of ssh_password, ssh_private_key_file and ssh_agent_auth may be set"))
	}
	return errors.Join(errs...)
}

func (b build) connect(ctx context.Context, r *builder.Run, _ *state) (communicator.Guest, error) {
	if err := context.Cause(ctx); err != nil {
		return communicator.Guest{}, err
	}
	c := b.cfg
	if c.Communicator == "none" {
		return communicator.Guest{
			Communicator: communicator.None{},
			Data:         communicator.Data{ID: "Null", ConnType: "none"},
		}, nil
	}
	d := communicator.Data{
		ID: "Null", Host: c.SSHHost, Port: c.SSHPort, User: c.SSHUsername, Password: c.SSHPassword, ConnType: c.Communicator,
		SSHPublicKey: string(c.SSHPublicKey), SSHPrivateKey: secret.New(string(c.SSHPrivateKey)), KeyFile: c.SSHPrivateKeyFile,
	}
	if c.SSHPrivateKeyFile != "" {
		key, err := os.ReadFile(c.SSHPrivateKeyFile)
		if err != nil {
			return communicator.Guest{}, fmt.Errorf("ssh_private_key_file: %w", err)
		}
		d.SSHPrivateKey = secret.New(string(key))
	}
	if c.Communicator == "winrm" {
		d.Host, d.Port, d.User, d.Password, d.WinRMPassword = c.WinRMHost, c.WinRMPort, c.WinRMUsername, c.WinRMPassword, c.WinRMPassword
	}
	conn, err := connect.Dial(ctx, c, ssh.Target{Host: d.Host, Port: d.Port, User: d.User, Password: d.Password}, r.Events)
	if err != nil {
		return communicator.Guest{}, err
	}
	return communicator.Guest{Communicator: conn, Data: d}, nil
}

func result(context.Context, *builder.Run, *state) (artifact.Set, error) {
	return artifact.Set{BuilderID: BuilderID, ID: "Null", Text: "Did not export anything. This is the null builder"}, nil
}
