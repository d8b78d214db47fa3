package qemu

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
)

// The systemd credentials a guest is handed (https://systemd.io/CREDENTIALS/).
const (
	credentialUser = "ssh.authorized_keys." // and a user's name
	credentialHost = "ingot.ssh_host_ed25519_key"
)

// makeKeys makes the keys of this build, unless it has them.
func (m *machine) makeKeys(_ context.Context, r *builder.Run, _ *state) error {
	c := &m.cfg
	if c.Communicator != "ssh" {
		return nil
	}
	var err error
	if m.wantsKey() && m.key.private.IsEmpty() {
		m.key.comment = c.TemporaryKeyPairName
		if m.key.comment == "" {
			m.key.comment = r.Token("ssh-key")
		}
		m.key.private, m.key.public, err = ssh.GenerateKey(c.TemporaryKeyPairType, c.TemporaryKeyPairBits, m.key.comment)
		if err != nil {
			return err
		}
		c.SSHPublicKey = []byte(m.key.public)
	}
	if !m.key.private.IsEmpty() {
		m.keyFile = filepath.Join(r.Dir, "ssh_key")
		if err := atomicfile.Write(m.keyFile, []byte(m.key.private.Reveal()), 0o600); err != nil {
			return err
		}
	}
	if m.handsOver() && m.hostKey.private.IsEmpty() {
		m.hostKey.private, m.hostKey.public, err = ssh.GenerateKey("ed25519", 0, "")
	}
	return err
}

// wantsKey reports whether the user gave no credential.
func (m *machine) wantsKey() bool {
	c := &m.cfg
	return c.SSHPassword.IsEmpty() && c.SSHPrivateKeyFile == "" && len(c.SSHPrivateKey) == 0 && !c.SSHAgentAuth
}

// handsOver reports whether the guest is given credentials: one that is
// installed from a medium has no use for them, and not every machine has
// SMBIOS.
func (m *machine) handsOver() bool {
	c := &m.cfg
	return c.DiskImage && c.Communicator == "ssh" && slices.Contains([]string{"x86_64", "i386", "aarch64"}, c.arch()) && c.MachineType != "microvm"
}

// credentials writes the files with the SMBIOS strings that carry keys to the
// guest: an argument could be seen by everybody on this computer.
func (m *machine) credentials(r *builder.Run) ([]string, error) {
	if !m.handsOver() {
		return nil, nil
	}
	creds := map[string]string{}
	if m.key.public != "" {
		creds[credentialUser+"root"] = m.key.public
		creds[credentialUser+m.cfg.SSHUsername] = m.key.public
	}
	if check := m.cfg.SSHHostKeyCheck; check == nil || *check {
		creds[credentialHost] = m.hostKey.private.Reveal()
	}
	var files []string
	for name, value := range creds {
		f := filepath.Join(r.Dir, "credential-"+filepath.Base(name))
		text := "io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString([]byte(value))
		if err := atomicfile.Write(f, []byte(text), 0o600); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	slices.Sort(files)
	return files, nil
}

// imageMark is the file that remembers that the base takes the host key.
func (m *machine) imageMark() string {
	if m.info.Cache == "" || m.medium.SHA256 == "" {
		return ""
	}
	return filepath.Join(m.info.Cache, "takes-host-key-"+m.medium.SHA256[:32])
}

// mustShowHostKey reports whether the guest is refused when it shows another
// key than the one it was given.
func (m *machine) mustShowHostKey() bool {
	if m.cfg.SSHHostKeyCheck != nil {
		return *m.cfg.SSHHostKeyCheck
	}
	f := m.imageMark()
	if f == "" {
		return false
	}
	_, err := os.Stat(f)
	return err == nil
}

// rememberHostKey keeps that the base takes the host key. Without the note the
// next build finds out again.
func (m *machine) rememberHostKey() {
	if f := m.imageMark(); f != "" && os.MkdirAll(m.info.Cache, 0o755) == nil {
		_ = atomicfile.Write(f, nil, 0o644)
	}
}

var _ communicator.Communicator = (*ssh.Conn)(nil)
