package communicator

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

func TestPrepareSetsDefaults(t *testing.T) {
	c := Config{SSHUsername: "u", SSHBastionHost: "b", SSHBastionAgentAuth: true}
	if err := c.Prepare(); err != nil {
		t.Fatal(err)
	}
	if c.Communicator != "ssh" || c.SSHPort != 22 || c.SSHBastionPort != 22 || c.SSHTimeout != 5*time.Minute ||
		c.SSHHandshakeAttempts != 10 || c.SSHKeepAliveInterval != 5*time.Second || c.SSHFileTransferMethod != "scp" || c.TemporaryKeyPairType != "rsa" {
		t.Errorf("got %+v", c)
	}
	c = Config{SSHUsername: "u", SSHWaitTimeout: time.Hour, SSHTimeout: time.Minute, SSHProxyHost: "p"}
	if err := c.Prepare(); err != nil || c.SSHTimeout != time.Hour || c.SSHHandshakeAttempts != 0 || c.SSHProxyPort != 1080 {
		t.Errorf("got %+v, %v", c, err)
	}
	c = Config{SSHUsername: "u", SSHHandshakeAttempts: 3}
	if err := c.Prepare(); err != nil || c.SSHTimeout != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	c = Config{Communicator: "winrm", WinRMUsername: "u", WinRMUseSSL: true}
	if err := c.Prepare(); err != nil || c.WinRMPort != 5986 || c.WinRMTimeout != 30*time.Minute {
		t.Errorf("got %+v, %v", c, err)
	}
	c = Config{Communicator: "winrm", WinRMUsername: "u"}
	if err := c.Prepare(); err != nil || c.WinRMPort != 5985 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestPrepareReportsEveryFault(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(bad, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		c    Config
		want []string // first paths
	}{
		"nothing":     {Config{}, []string{"ssh_username"}},
		"none":        {Config{Communicator: "none"}, nil},
		"winrm":       {Config{Communicator: "winrm", WinRMPort: 70000, WinRMTimeout: -1}, []string{"winrm_port", "winrm_timeout", "winrm_username"}},
		"unknown":     {Config{Communicator: "telnet"}, []string{"communicator"}},
		"dsa":         {Config{SSHUsername: "u", TemporaryKeyPairType: "dsa"}, []string{"temporary_key_pair_type"}},
		"bits":        {Config{SSHUsername: "u", TemporaryKeyPairType: "ecdsa", TemporaryKeyPairBits: 1024}, []string{"temporary_key_pair_bits"}},
		"key":         {Config{SSHUsername: "u", SSHPrivateKeyFile: bad}, []string{"ssh_private_key_file"}},
		"no key":      {Config{SSHUsername: "u", SSHPrivateKeyFile: bad + "x"}, []string{"ssh_private_key_file"}},
		"certificate": {Config{SSHUsername: "u", SSHCertificateFile: bad}, []string{"ssh_certificate_file"}},
		"key pair":    {Config{SSHUsername: "u", SSHKeyPairName: "k"}, []string{"ssh_keypair_name"}},
		"bastion":     {Config{SSHUsername: "u", SSHBastionHost: "b"}, []string{"ssh_bastion_host"}},
		"many": {Config{
			SSHPort: -1, SSHCiphers: []string{"rot13"}, SSHKeyExchangeAlgorithms: []string{"shout"}, SSHFileTransferMethod: "ftp",
			SSHBastionHost: "b", SSHBastionPassword: secret.New("x"), SSHProxyHost: "p", SSHRemoteTunnels: []string{"1:2"},
			SSHLocalTunnels: []string{"0:h:1"}, SSHHandshakeAttempts: -1, SSHTimeout: -1, PauseBeforeConnecting: -1,
		}, []string{
			"pause_before_connecting", "ssh_ciphers", "ssh_file_transfer_method", "ssh_handshake_attempts", "ssh_key_exchange_algorithms",
			"ssh_local_tunnels", "ssh_port", "ssh_proxy_host", "ssh_remote_tunnels", "ssh_timeout", "ssh_username",
		}},
	} {
		var got []string
		for _, err := range diag.Flatten(tc.c.Prepare()) {
			var f *diag.FieldError
			if !errors.As(err, &f) {
				t.Fatalf("%s: %T", name, err)
			}
			got = append(got, f.Paths[0])
		}
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: faults in %q, want %q", name, got, tc.want)
		}
	}
}

func TestKeysWithAPassphraseAreRefused(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if testing.Short() {
			t.Skip("needs ssh-keygen")
		}
		t.Fatal("this test needs ssh-keygen: apt-get install openssh-client")
	}
	file := filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", file).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	c := Config{SSHUsername: "u", SSHPrivateKeyFile: file}
	err := c.Prepare()
	if err == nil || !strings.Contains(err.Error(), "passphrase") || diag.Hint(diag.Flatten(err)[0]) == "" {
		t.Errorf("err = %v", err)
	}
}

func FuzzParseTunnel(f *testing.F) {
	for _, s := range []string{"80:host:8080", "1:[::1]:2", "::", "0:h:1", "1:h:70000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tun, err := ParseTunnel(s)
		if err == nil && (tun.Port < 1 || tun.Port > 65535 || !strings.HasSuffix(s, tun.To)) {
			t.Errorf("%q: %+v", s, tun)
		}
	})
}
