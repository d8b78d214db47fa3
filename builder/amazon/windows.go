package amazon

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// windowsPassword waits for the password that Windows makes at its first start
// and encrypts with the key pair
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetPasswordData.html).
func (m *machine) windowsPassword(ctx context.Context, c cloud, r *builder.Run, s *state) (secret.String, error) {
	if !m.windows.IsEmpty() {
		return m.windows, nil
	}
	key := m.key
	if key.IsEmpty() && m.comm.SSHPrivateKeyFile != "" {
		pem, err := os.ReadFile(m.comm.SSHPrivateKeyFile)
		if err != nil {
			return secret.String{}, fmt.Errorf("ssh_private_key_file: %w", err)
		}
		key = secret.New(string(pem))
	}
	if key.IsEmpty() {
		return secret.String{}, diag.WithHint(errors.New("there is no key that the Windows password is encrypted with"), "set winrm_password, or ssh_keypair_name with ssh_private_key_file")
	}
	r.Say("Waiting for the password of Windows (at most %s)", m.run.WindowsTimeout)
	var data string
	err := c.s.Wait(ctx, m.run.WindowsTimeout, func(ctx context.Context) (bool, error) {
		out, err := c.GetPasswordData(ctx, &ec2.GetPasswordDataInput{InstanceId: &s.Instance.ID})
		if err != nil {
			return false, err
		}
		data = strings.TrimSpace(aws.ToString(out.PasswordData))
		return data != "", nil
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		return secret.String{}, diag.WithHint(fmt.Errorf("no password of Windows: %w", err), "the image must be prepared with EC2Launch or EC2Config; or raise windows_password_timeout")
	}
	if err != nil {
		return secret.String{}, err
	}
	m.windows, err = decryptPassword(key, data)
	return m.windows, err
}

// decryptPassword opens data, which is in base64, with an RSA key in PEM form.
func decryptPassword(key secret.String, data string) (secret.String, error) {
	box, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return secret.String{}, fmt.Errorf("the password of Windows: %w", err)
	}
	raw, err := gossh.ParseRawPrivateKey([]byte(key.Reveal()))
	if err != nil {
		return secret.String{}, fmt.Errorf("the key for the password of Windows: %w", err)
	}
	private, ok := raw.(*rsa.PrivateKey)
	if !ok {
		return secret.String{}, diag.WithHint(fmt.Errorf("the password of Windows cannot be opened with a key of the type %T", raw), `use an RSA key: temporary_key_pair_type = "rsa"`)
	}
	//lint:ignore SA1019 it is how EC2 encrypts passwords
	text, err := rsa.DecryptPKCS1v15(rand.Reader, private, box)
	if err != nil {
		return secret.String{}, fmt.Errorf("open the password of Windows: %w", err)
	}
	return secret.New(string(text)), nil
}
