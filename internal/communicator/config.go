package communicator

import (
	"time"

	"github.com/ingot-build/ingot/internal/secret"
)

// Config is the options that every builder with a guest accepts, embedded in
// its own. Names, types and defaults are Packer's.
type Config struct {
	Communicator          string        `hcl:"communicator"`
	PauseBeforeConnecting time.Duration `hcl:"pause_before_connecting"`

	SSHHost                   string        `hcl:"ssh_host"`
	SSHPort                   int           `hcl:"ssh_port"`
	SSHUsername               string        `hcl:"ssh_username"`
	SSHPassword               secret.String `hcl:"ssh_password"`
	SSHKeyPairName            string        `hcl:"ssh_keypair_name"`
	TemporaryKeyPairName      string        `hcl:"temporary_key_pair_name"`
	TemporaryKeyPairType      string        `hcl:"temporary_key_pair_type"`
	TemporaryKeyPairBits      int           `hcl:"temporary_key_pair_bits"`
	SSHCiphers                []string      `hcl:"ssh_ciphers"`
	SSHClearAuthorizedKeys    bool          `hcl:"ssh_clear_authorized_keys"`
	SSHKeyExchangeAlgorithms  []string      `hcl:"ssh_key_exchange_algorithms"`
	SSHPrivateKeyFile         string        `hcl:"ssh_private_key_file"`
	SSHCertificateFile        string        `hcl:"ssh_certificate_file"`
	SSHPty                    bool          `hcl:"ssh_pty"`
	SSHTimeout                time.Duration `hcl:"ssh_timeout"`
	SSHWaitTimeout            time.Duration `hcl:"ssh_wait_timeout"`
	SSHAgentAuth              bool          `hcl:"ssh_agent_auth"`
	SSHDisableAgentForwarding bool          `hcl:"ssh_disable_agent_forwarding"`
	SSHHandshakeAttempts      int           `hcl:"ssh_handshake_attempts"`
	SSHBastionHost            string        `hcl:"ssh_bastion_host"`
	SSHBastionPort            int           `hcl:"ssh_bastion_port"`
	SSHBastionAgentAuth       bool          `hcl:"ssh_bastion_agent_auth"`
	SSHBastionUsername        string        `hcl:"ssh_bastion_username"`
	SSHBastionPassword        secret.String `hcl:"ssh_bastion_password"`
	SSHBastionInteractive     bool          `hcl:"ssh_bastion_interactive"`
	SSHBastionPrivateKeyFile  string        `hcl:"ssh_bastion_private_key_file"`
	SSHBastionCertificateFile string        `hcl:"ssh_bastion_certificate_file"`
	SSHFileTransferMethod     string        `hcl:"ssh_file_transfer_method"`
	SSHProxyHost              string        `hcl:"ssh_proxy_host"`
	SSHProxyPort              int           `hcl:"ssh_proxy_port"`
	SSHProxyUsername          string        `hcl:"ssh_proxy_username"`
	SSHProxyPassword          secret.String `hcl:"ssh_proxy_password"`
	SSHKeepAliveInterval      time.Duration `hcl:"ssh_keep_alive_interval"`
	SSHReadWriteTimeout       time.Duration `hcl:"ssh_read_write_timeout"`
	SSHRemoteTunnels          []string      `hcl:"ssh_remote_tunnels"`
	SSHLocalTunnels           []string      `hcl:"ssh_local_tunnels"`
	SSHPublicKey              []byte        `hcl:"ssh_public_key"`
	SSHPrivateKey             []byte        `hcl:"ssh_private_key"`

	WinRMUsername string        `hcl:"winrm_username"`
	WinRMPassword secret.String `hcl:"winrm_password"`
	WinRMHost     string        `hcl:"winrm_host"`
	WinRMNoProxy  bool          `hcl:"winrm_no_proxy"`
	WinRMPort     int           `hcl:"winrm_port"`
	WinRMTimeout  time.Duration `hcl:"winrm_timeout"`
	WinRMUseSSL   bool          `hcl:"winrm_use_ssl"`
	WinRMInsecure bool          `hcl:"winrm_insecure"`
	WinRMUseNTLM  *bool         `hcl:"winrm_use_ntlm"`
}
