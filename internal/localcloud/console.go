package localcloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

// maxConsole is how much of a console's output is returned.
const maxConsole = 64 << 10

// ConsoleOutput returns the last 64 KiB that an instance wrote to its serial
// console, and when it last did. Both are empty before it wrote anything.
// latest is for Nitro instances only, as with EC2; what is returned is the
// latest either way.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
func (c *Cloud) ConsoleOutput(ctx context.Context, region, id string, latest bool) (out []byte, at time.Time, err error) {
	err = c.View(ctx, region, func(t *Tx) error {
		i, err := t.FindInstance(id)
		if err != nil || !latest {
			return err
		}
		if kind, ok := instancetype.Get(i.Type); ok && kind.Hypervisor != "nitro" {
			return Errorf("UnsupportedOperation", "This instance type does not support retrieving the latest console logs: %s", i.Type)
		}
		return nil
	})
	if err != nil {
		return nil, at, err
	}
	f, err := os.Open(c.consoleFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, at, nil
	}
	if err != nil {
		return nil, at, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, at, err
	}
	from := max(st.Size()-maxConsole, 0)
	out, err = io.ReadAll(io.LimitReader(io.NewSectionReader(f, from, maxConsole), maxConsole))
	return out, st.ModTime(), err
}

// ConsoleScreenshot returns the screen of a running instance as a JPEG image.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleScreenshot.html
func (c *Cloud) ConsoleScreenshot(ctx context.Context, region, id string) ([]byte, error) {
	i, err := c.instance(ctx, region, id)
	if err != nil {
		return nil, err
	}
	if i.State != "running" {
		return nil, Errorf("IncorrectInstanceState", "The instance '%s' is not in the 'running' state: it is %s", id, i.State)
	}
	p, err := c.machineOf(ctx, region, id)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, Errorf("IncorrectInstanceState", "The instance '%s' is being started", id)
	}
	out, err := p.Screenshot(ctx)
	if errors.Is(err, machine.ErrEnded) {
		err = Errorf("IncorrectInstanceState", "The instance '%s' has just stopped", id)
	}
	return out, err
}

// instance returns an instance, or InvalidInstanceID.NotFound.
func (c *Cloud) instance(ctx context.Context, region, id string) (i Instance, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		i, err = t.FindInstance(id)
		return err
	})
	return i, err
}

// PasswordData returns the administrator's password of a Windows instance that
// runs, encrypted with the RSA key pair it was launched with, and when it was
// made. It is empty until the instance runs and for other platforms.
// The password is a random one: no guest is told it.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetPasswordData.html
func (c *Cloud) PasswordData(ctx context.Context, region, id string) (data []byte, at time.Time, err error) {
	i, err := c.instance(ctx, region, id)
	if err != nil || i.State != "running" {
		return nil, i.Launched, err
	}
	return i.Password, i.Launched, nil
}

// windowsPassword returns a random password encrypted with the RSA key of a
// line of authorized_keys, nil for other kinds of keys.
func windowsPassword(line string) []byte {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil
	}
	ck, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	pub, ok := ck.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return nil
	}
	//lint:ignore SA1019 it is how EC2 encrypts passwords
	out, err := rsa.EncryptPKCS1v15(rand.Reader, pub, []byte(newPassword()))
	if err != nil {
		return nil
	}
	return out
}

// newPassword has a character of each kind that Windows asks for.
func newPassword() string {
	return "aA1!" + strings.NewReplacer("/", "-", "+", ".").Replace(randomText(21))
}
