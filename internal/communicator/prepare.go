package communicator

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/diag"
)

// Defaults of [Config.Prepare].
const (
	defaultSSHPort           = 22
	defaultProxyPort         = 1080
	defaultSSHTimeout        = 5 * time.Minute
	defaultHandshakeAttempts = 10
	defaultKeepAlive         = 5 * time.Second
	defaultWinRMTimeout      = 30 * time.Minute
)

// Prepare checks the options and sets their defaults. It reads the key files
// the options name and uses no network. The error joins a [*diag.FieldError]
// for every fault. It may be called twice.
func (c *Config) Prepare() error {
	if c.Communicator == "" {
		c.Communicator = "ssh"
	}
	var errs []error
	if c.PauseBeforeConnecting < 0 {
		errs = append(errs, diag.Fieldf("pause_before_connecting", "must not be negative"))
	}
	switch c.Communicator {
	case "ssh":
		errs = append(errs, c.prepareSSH()...)
	case "winrm":
		errs = append(errs, c.prepareWinRM()...)
	case "none":
	default:
		errs = append(errs, diag.Fieldf("communicator", "%q is not known; it is one of ssh, winrm, none", c.Communicator))
	}
	return errors.Join(errs...)
}

func (c *Config) prepareSSH() []error {
	c.defaultsSSH()
	errs := []error{
		port("ssh_port", c.SSHPort),
		positive("ssh_timeout", c.SSHTimeout),
		positive("ssh_read_write_timeout", c.SSHReadWriteTimeout),
		c.checkTemporaryKey(),
		c.checkTransfer(),
		c.checkProxy(),
		known("ssh_ciphers", c.SSHCiphers, cryptossh.SupportedAlgorithms().Ciphers, cryptossh.InsecureAlgorithms().Ciphers),
		known("ssh_key_exchange_algorithms", c.SSHKeyExchangeAlgorithms, kexNames(), cryptossh.InsecureAlgorithms().KeyExchanges),
		checkKey("ssh_private_key_file", &c.SSHPrivateKeyFile, "ssh_certificate_file", &c.SSHCertificateFile),
	}
	if c.SSHUsername == "" {
		errs = append(errs, diag.Fieldsf([]string{"ssh_username", "communicator"}, "must be set to connect over SSH"))
	}
	if c.SSHHandshakeAttempts < 0 {
		errs = append(errs, diag.Fieldf("ssh_handshake_attempts", "must not be negative"))
	}
	if c.SSHKeyPairName != "" && c.SSHPrivateKeyFile == "" && !c.SSHAgentAuth {
		errs = append(errs, diag.Fieldsf([]string{"ssh_keypair_name", "ssh_private_key_file", "ssh_agent_auth"},
			"needs ssh_private_key_file or ssh_agent_auth: the key pair's private half is not in the cloud"))
	}
	errs = append(errs, c.checkBastion()...)
	for name, list := range map[string][]string{"ssh_remote_tunnels": c.SSHRemoteTunnels, "ssh_local_tunnels": c.SSHLocalTunnels} {
		for _, t := range list {
			if _, err := ParseTunnel(t); err != nil {
				errs = append(errs, diag.Fieldf(name, "%w", err))
			}
		}
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func (c *Config) defaultsSSH() {
	if c.SSHPort == 0 {
		c.SSHPort = defaultSSHPort
	}
	if c.SSHWaitTimeout != 0 {
		c.SSHTimeout = c.SSHWaitTimeout
	}
	// Giving one of the two limits lifts the other.
	if c.SSHTimeout == 0 && c.SSHHandshakeAttempts == 0 {
		c.SSHTimeout, c.SSHHandshakeAttempts = defaultSSHTimeout, defaultHandshakeAttempts
	}
	if c.SSHKeepAliveInterval == 0 {
		c.SSHKeepAliveInterval = defaultKeepAlive
	}
	if c.SSHFileTransferMethod == "" {
		c.SSHFileTransferMethod = "scp"
	}
	if c.SSHBastionHost != "" {
		if c.SSHBastionPort == 0 {
			c.SSHBastionPort = defaultSSHPort
		}
		if c.SSHBastionPrivateKeyFile == "" && c.SSHPrivateKeyFile != "" {
			c.SSHBastionPrivateKeyFile = c.SSHPrivateKeyFile
			if c.SSHBastionCertificateFile == "" {
				c.SSHBastionCertificateFile = c.SSHCertificateFile
			}
		}
	}
	if c.SSHProxyHost != "" && c.SSHProxyPort == 0 {
		c.SSHProxyPort = defaultProxyPort
	}
	if c.TemporaryKeyPairType == "" {
		c.TemporaryKeyPairType = "rsa"
	}
}

func (c *Config) checkTemporaryKey() error {
	const bits = "temporary_key_pair_bits"
	both := []string{bits, "temporary_key_pair_type"}
	switch c.TemporaryKeyPairType {
	case "rsa":
		if c.TemporaryKeyPairBits != 0 && (c.TemporaryKeyPairBits < 1024 || c.TemporaryKeyPairBits > 16384) {
			return diag.Fieldsf(both, "an rsa key has 1024 to 16384 bits, not %d", c.TemporaryKeyPairBits)
		}
	case "ecdsa":
		if !slices.Contains([]int{0, 256, 384, 521}, c.TemporaryKeyPairBits) {
			return diag.Fieldsf(both, "an ecdsa key has 256, 384 or 521 bits, not %d", c.TemporaryKeyPairBits)
		}
	case "ed25519":
	case "dsa":
		return diag.Fieldf("temporary_key_pair_type", "OpenSSH no longer accepts dsa keys; use ed25519, ecdsa or rsa")
	default:
		return diag.Fieldf("temporary_key_pair_type", "%q is not known; it is one of rsa, ecdsa, ed25519", c.TemporaryKeyPairType)
	}
	return nil
}

func (c *Config) checkTransfer() error {
	if c.SSHFileTransferMethod != "scp" && c.SSHFileTransferMethod != "sftp" {
		return diag.Fieldf("ssh_file_transfer_method", "%q is not known; it is scp or sftp", c.SSHFileTransferMethod)
	}
	return nil
}

func (c *Config) checkProxy() error {
	if c.SSHProxyHost == "" {
		return nil
	}
	if c.SSHBastionHost != "" {
		return diag.Fieldsf([]string{"ssh_proxy_host", "ssh_bastion_host"}, "cannot be used together with ssh_bastion_host")
	}
	return port("ssh_proxy_port", c.SSHProxyPort)
}

func (c *Config) checkBastion() []error {
	if c.SSHBastionHost == "" {
		return nil
	}
	var errs []error
	if !c.SSHBastionAgentAuth && !c.SSHBastionInteractive && c.SSHBastionPassword.IsEmpty() && c.SSHBastionPrivateKeyFile == "" {
		errs = append(errs, diag.Fieldsf([]string{
			"ssh_bastion_host", "ssh_bastion_password", "ssh_bastion_private_key_file", "ssh_bastion_agent_auth",
			"ssh_bastion_interactive", "ssh_private_key_file",
		},
			"needs one of ssh_bastion_password, ssh_bastion_private_key_file, ssh_bastion_agent_auth, ssh_bastion_interactive"))
	}
	keyFile, certFile := "ssh_bastion_private_key_file", "ssh_bastion_certificate_file"
	if c.SSHBastionPrivateKeyFile != c.SSHPrivateKeyFile || c.SSHBastionCertificateFile != c.SSHCertificateFile {
		errs = append(errs, checkKey(keyFile, &c.SSHBastionPrivateKeyFile, certFile, &c.SSHBastionCertificateFile))
	}
	return append(errs, port("ssh_bastion_port", c.SSHBastionPort))
}

func (c *Config) prepareWinRM() []error {
	if c.WinRMPort == 0 {
		c.WinRMPort = 5985
		if c.WinRMUseSSL {
			c.WinRMPort = 5986
		}
	}
	if c.WinRMTimeout == 0 {
		c.WinRMTimeout = defaultWinRMTimeout
	}
	errs := []error{port("winrm_port", c.WinRMPort), positive("winrm_timeout", c.WinRMTimeout)}
	if c.WinRMUsername == "" {
		errs = append(errs, diag.Fieldsf([]string{"winrm_username", "communicator"}, "must be set to connect over WinRM"))
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// checkKey expands ~ in both names and reads the files.
func checkKey(keyOpt string, key *string, certOpt string, cert *string) error {
	if *key == "" {
		if *cert != "" {
			return diag.Fieldsf([]string{certOpt, keyOpt}, "needs %s as well", keyOpt)
		}
		return nil
	}
	for _, p := range []*string{key, cert} {
		expanded, err := ExpandHome(*p)
		if err != nil {
			return diag.Fieldf(keyOpt, "%w", err)
		}
		*p = expanded
	}
	signer, err := ReadKey(*key)
	if err != nil {
		return diag.Fieldf(keyOpt, "%w", err)
	}
	if *cert != "" {
		if _, err := ReadCertificate(*cert, signer); err != nil {
			return diag.Fieldsf([]string{certOpt, keyOpt}, "%w", err)
		}
	}
	return nil
}

// ExpandHome replaces a leading "~" or "~/" with the user's home folder.
func ExpandHome(name string) (string, error) {
	if name != "~" && !strings.HasPrefix(name, "~/") {
		return name, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, strings.TrimPrefix(name, "~")), nil
}

func kexNames() []string {
	return append(cryptossh.SupportedAlgorithms().KeyExchanges, "curve25519-sha256@libssh.org")
}

func known(opt string, got []string, lists ...[]string) error {
	all := slices.Concat(lists...)
	for _, g := range got {
		if !slices.Contains(all, g) {
			return diag.Fieldf(opt, "%q is not supported; these are: %s", g, strings.Join(all, ", "))
		}
	}
	return nil
}

func port(opt string, p int) error {
	if p < 1 || p > 65535 {
		return diag.Fieldf(opt, "a port is 1 to 65535, not %d", p)
	}
	return nil
}

func positive(opt string, d time.Duration) error {
	if d < 0 {
		return diag.Fieldf(opt, "must not be negative")
	}
	return nil
}
