package qemu

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm/bootcommand"
	"github.com/ingot-build/ingot/internal/vm/rfb"
)

// typedData is what boot_command and boot_steps can refer to.
type typedData struct {
	HTTPIP       string
	HTTPPort     int
	Name         string
	SSHPublicKey string
}

// typed is one piece of the boot command.
type typed struct {
	say  string
	acts []bootcommand.Action
}

// bootPieces renders and parses what is to be typed.
func (m *machine) bootPieces() ([]typed, error) {
	c := &m.cfg
	var texts []typed
	var sources []string
	switch {
	case len(c.BootSteps) > 0:
		for _, s := range c.BootSteps {
			t := typed{}
			if len(s) > 1 {
				t.say = s[1]
			}
			texts, sources = append(texts, t), append(sources, s[0])
		}
	case c.BootGroupInterval > 0:
		texts, sources = make([]typed, len(c.BootCommand)), c.BootCommand
	case len(c.BootCommand) > 0:
		texts, sources = []typed{{}}, []string{strings.Join(c.BootCommand, "")}
	}
	data := typedData{HTTPIP: m.httpIP, HTTPPort: m.httpPort(), Name: c.VMName, SSHPublicKey: strings.TrimSpace(string(c.SSHPublicKey))}
	for i, src := range sources {
		t, err := parseTemplate(src)
		if err != nil {
			return nil, fmt.Errorf("boot command: %w", err)
		}
		var b strings.Builder
		if err := t.Execute(&b, data); err != nil {
			return nil, fmt.Errorf("boot command: %w", err)
		}
		if texts[i].acts, err = bootcommand.Parse(b.String()); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// typeBoot waits boot_wait and types the boot command, when there is one.
func (m *machine) typeBoot(ctx context.Context, r *builder.Run, _ *state) error {
	pieces, err := m.bootPieces()
	if err != nil || len(pieces) == 0 {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { // a guest that is gone is not typed at
		select {
		case <-m.proc.Done():
			stop(m.dead())
		case <-ctx.Done():
		}
	}()
	if err := m.typePieces(ctx, r, pieces); err != nil {
		// The last key may be what shuts the guest down.
		if m.gone(ctx) && m.proc.Clean() == nil {
			r.Say("The guest has shut down while the boot command was typed")
			return nil
		}
		return err
	}
	return nil
}

// gone reports whether the machine has ended or does so just now.
func (m *machine) gone(ctx context.Context) bool {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	return m.proc.Wait(ctx) == nil
}

func (m *machine) typePieces(ctx context.Context, r *builder.Run, pieces []typed) error {
	if m.cfg.BootWait > 0 {
		r.Say("Waiting %s for the guest to boot", m.cfg.BootWait)
		if err := poll.Sleep(ctx, m.cfg.BootWait); err != nil {
			return err
		}
	}
	addr, err := m.vncAddress(ctx)
	if err != nil {
		return err
	}
	client, err := rfb.Dial(ctx, addr, m.vncPassword)
	if err != nil {
		return diag.WithHint(fmt.Errorf("type the boot command: %w", err), "VNC must be reachable from here: correct vnc_bind_address, or a -vnc in qemuargs")
	}
	defer client.Close()
	r.Say("Typing the boot command over VNC (%s)", addr)
	for _, p := range pieces {
		if p.say != "" {
			r.Say("Typing: %s", p.say)
		}
		if err := bootcommand.Type(ctx, client, p.acts, m.cfg.BootKeyInterval); err != nil {
			return fmt.Errorf("type the boot command: %w", err)
		}
		if err := poll.Sleep(ctx, m.cfg.BootGroupInterval); err != nil {
			return err
		}
	}
	return nil
}

// vncAddress asks QEMU where its VNC server is: qemuargs may have moved it.
func (m *machine) vncAddress(ctx context.Context) (string, error) {
	var v struct {
		Enabled bool   `json:"enabled"`
		Host    string `json:"host"`
		Service string `json:"service"`
	}
	if err := m.proc.QMP().Do(ctx, "query-vnc", nil, &v); err != nil {
		return "", fmt.Errorf("find the VNC server: %w", err)
	}
	if !v.Enabled || v.Service == "" {
		return "", diag.WithHint(fmt.Errorf("type the boot command: QEMU has no VNC server"), "remove -vnc from qemuargs")
	}
	if ip := net.ParseIP(v.Host); ip != nil && ip.IsUnspecified() {
		v.Host = "127.0.0.1"
	}
	return net.JoinHostPort(v.Host, v.Service), nil
}
