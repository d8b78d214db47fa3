package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// errKeyUnknown says that the host key cannot be judged yet.
var errKeyUnknown = errors.New("the guest's host key is not known yet")

func parseHostKeys(lines []string) ([]gossh.PublicKey, error) {
	var keys []gossh.PublicKey
	for _, line := range lines {
		rest := []byte(line)
		for len(strings.TrimSpace(string(rest))) > 0 {
			key, _, _, more, err := gossh.ParseAuthorizedKey(rest)
			if err != nil {
				return nil, fmt.Errorf("host key %q: %w", line, err)
			}
			keys, rest = append(keys, key), more
		}
	}
	return keys, nil
}

// hostKeys returns the check of the guest's key and the key types to ask for
// (nil: any). The check runs on the goroutine of the handshake.
func (c *Conn) hostKeys(ctx context.Context) (gossh.HostKeyCallback, []string, error) {
	pinned, err := parseHostKeys(c.t.HostKeys)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(pinned) > 0:
		return checkPinned(pinned), preferred(pinned), nil
	case c.t.HostKeyFunc == nil:
		c.warnHostKey.Do(func() {
			c.out.Emit(event.Warn{Text: "The host key of " + c.addr() + " is not checked: whoever answers there is taken for the guest."})
		})
		return gossh.InsecureIgnoreHostKey(), nil, nil //nolint:gosec // warned of; a setting of the builder
	}
	return func(host string, remote net.Addr, key gossh.PublicKey) error {
		lines, err := c.t.HostKeyFunc(ctx)
		if err != nil {
			return &permanentError{fmt.Errorf("find out the guest's host key: %w", err)}
		}
		keys, err := parseHostKeys(lines)
		if err != nil {
			return &permanentError{err}
		}
		if len(keys) == 0 {
			return errKeyUnknown
		}
		return checkPinned(keys)(host, remote, key)
	}, nil, nil
}

func checkPinned(pinned []gossh.PublicKey) gossh.HostKeyCallback {
	return func(host string, _ net.Addr, key gossh.PublicKey) error {
		var want []string
		for _, p := range pinned {
			if string(p.Marshal()) == string(key.Marshal()) {
				return nil
			}
			want = append(want, describe(p))
		}
		return diag.WithHint(
			&communicator.HostKeyError{Host: host, Want: strings.Join(want, " or "), Got: describe(key)},
			"check that the address and port belong to this guest and that no other machine took them over")
	}
}

func describe(k gossh.PublicKey) string { return k.Type() + " " + gossh.FingerprintSHA256(k) }

// preferred lists the algorithms of the pinned keys first, so that a server
// with several keys shows one that can be compared, and then the others, so
// that a server without them is told apart by its key.
func preferred(pinned []gossh.PublicKey) []string {
	var out []string
	for _, p := range pinned {
		if p.Type() == gossh.KeyAlgoRSA {
			out = append(out, gossh.KeyAlgoRSASHA256, gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSA)
			continue
		}
		out = append(out, p.Type())
	}
	for _, a := range gossh.SupportedAlgorithms().HostKeys {
		if !strings.Contains(a, "-cert-") {
			out = append(out, a)
		}
	}
	var unique []string
	for _, a := range out {
		if !slices.Contains(unique, a) {
			unique = append(unique, a)
		}
	}
	return unique
}
