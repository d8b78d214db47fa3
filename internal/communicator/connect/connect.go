// Package connect connects to a guest the way the template says: over SSH or
// WinRM, or not at all.
package connect

import (
	"context"
	"fmt"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/event"
)

// Dial waits for the guest as [ssh.Dial] and [winrm.Dial] do; their errors are
// its own. Of t, WinRM uses the address, the user, the password and Alive. With
// the communicator "none" nothing is waited for.
func Dial(ctx context.Context, cfg communicator.Config, t ssh.Target, out event.Sink) (communicator.Communicator, error) {
	switch cfg.Communicator {
	case "", "ssh":
		c, err := ssh.Dial(ctx, cfg, t, out)
		if err != nil {
			return nil, err
		}
		return c, nil
	case "winrm":
		c, err := winrm.Dial(ctx, cfg, winrm.Target{Host: t.Host, Port: t.Port, User: t.User, Password: t.Password, Alive: t.Alive}, out)
		if err != nil {
			return nil, err
		}
		return c, nil
	case "none":
		return communicator.None{}, nil
	}
	return nil, fmt.Errorf("communicator %q is not known", cfg.Communicator)
}
