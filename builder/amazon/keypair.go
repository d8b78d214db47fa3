package amazon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// keyFileName is in the build's folder, for tools that need a file and for a
// person who looks at a build that failed. It goes with the folder.
const keyFileName = "ssh_key"

// wantsKey reports whether the user gave no credential.
func (m *machine) wantsKey() bool {
	c := m.comm
	if c.Communicator == "none" || c.SSHKeyPairName != "" || c.SSHPrivateKeyFile != "" || len(c.SSHPrivateKey) > 0 || c.SSHAgentAuth {
		return false
	}
	if c.Communicator == "winrm" {
		return c.WinRMPassword.IsEmpty() // the key opens the password
	}
	return c.SSHPassword.IsEmpty()
}

// makeKey imports a key pair that was made here: unlike one that AWS makes,
// its private half cannot get lost on the way. After a crash the key is read
// from its file; where the file is gone, the pair is replaced.
func (m *machine) makeKey(ctx context.Context, r *builder.Run, s *state) error {
	if !m.wantsKey() {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	file := filepath.Join(r.Dir, keyFileName)
	if s.Key.Begun && m.key.IsEmpty() {
		if pem, rerr := os.ReadFile(file); rerr == nil {
			m.key = secret.New(string(pem))
		} else {
			if err := m.removeKey(ctx, r, s); err != nil {
				return err
			}
			s.Attempt = randomHex(4)
		}
	}
	if s.Key.ID != "" && !m.key.IsEmpty() {
		return m.readKey(s.Key.Name)
	}
	// Windows' password is encrypted with the key, which only RSA can.
	s.Key.RSA = m.comm.TemporaryKeyPairType == "rsa" && !m.run.autoKey || s.Source.Platform == "windows" || m.comm.Communicator == "winrm"
	if s.Key.Name == "" {
		if s.Key.Name = m.comm.TemporaryKeyPairName; s.Key.Name == "" {
			s.Key.Name = s.token(r, "key-pair")
		}
	}
	if m.key.IsEmpty() {
		typ, bits := "ed25519", 0
		if s.Key.RSA {
			if typ, bits = "rsa", m.comm.TemporaryKeyPairBits; bits == 0 && m.run.autoKey {
				bits = 2048
			}
		}
		if m.key, _, err = ssh.GenerateKey(typ, bits, s.Key.Name); err != nil {
			return err
		}
		if err := atomicfile.Write(file, []byte(m.key.Reveal()), 0o600); err != nil {
			return err
		}
	}
	if err := m.readKey(s.Key.Name); err != nil {
		return err
	}
	r.Say("Importing temporary key pair %s", s.Key.Name)
	err = m.importKey(ctx, r, s, c)
	if awsaccess.Code(err) == "UnauthorizedOperation" {
		// A policy written for Packer allows only to have one made.
		err = m.createKey(ctx, r, s, c, file)
	}
	return err
}

// readKey derives the public half.
func (m *machine) readKey(name string) error {
	signer, err := communicator.ParseKey([]byte(m.key.Reveal()))
	if err != nil {
		return fmt.Errorf("temporary key: %w", err)
	}
	m.keyLine = strings.TrimSpace(string(gossh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + name
	return nil
}

func (m *machine) importKey(ctx context.Context, r *builder.Run, s *state, c cloud) error {
	tags, err := m.runTags(r, s)
	if err != nil {
		return err
	}
	s.Key.Begun = true
	if err := r.Save(); err != nil {
		return err
	}
	err = c.s.Once(ctx, func(context.Context) (bool, error) { return false, nil }, func(ctx context.Context) error {
		out, err := c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{
			KeyName: &s.Key.Name, PublicKeyMaterial: []byte(m.keyLine),
			TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeKeyPair, tags)},
		})
		if err == nil {
			s.Key.ID = aws.ToString(out.KeyPairId)
		}
		return err
	})
	if awsaccess.Code(err) != "InvalidKeyPair.Duplicate" {
		return err
	}
	if m.comm.TemporaryKeyPairName == "" {
		// Nobody else makes a key of this name: the answer to our own call was
		// lost.
		s.Key.ID = s.Key.Name
		return nil
	}
	id, mine, ferr := m.findKey(ctx, c, r.RunID, s.Key.Name)
	switch {
	case ferr != nil:
		return errors.Join(err, ferr)
	case !mine:
		s.Key.Begun = false // not ours to delete
		return diag.WithHint(fmt.Errorf("there is a key pair %s already: %w", s.Key.Name, err), "choose another temporary_key_pair_name, or leave it out")
	}
	s.Key.ID = id
	return nil
}

// findKey looks for the key pair and whether it holds our public key or our
// tag.
func (m *machine) findKey(ctx context.Context, c cloud, run, name string) (id string, mine bool, err error) {
	out, err := c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{name}, IncludePublicKey: aws.Bool(true)})
	if err != nil || len(out.KeyPairs) == 0 {
		return "", false, gone(err, "InvalidKeyPair.NotFound")
	}
	k := out.KeyPairs[0]
	mine = ours(run, k.Tags)
	if mine || m.keyLine == "" {
		return aws.ToString(k.KeyPairId), mine, nil
	}
	here, _, _, _, err := gossh.ParseAuthorizedKey([]byte(m.keyLine))
	if err != nil {
		return "", false, err
	}
	there, _, _, _, perr := gossh.ParseAuthorizedKey([]byte(aws.ToString(k.PublicKey)))
	return aws.ToString(k.KeyPairId), perr == nil && string(there.Marshal()) == string(here.Marshal()), nil
}

// createKey has AWS make the key pair. Where the answer is lost the private
// key is: that pair is removed and another one made.
func (m *machine) createKey(ctx context.Context, r *builder.Run, s *state, c cloud, file string) error {
	tags, err := m.runTags(r, s)
	if err != nil {
		return err
	}
	in := &ec2.CreateKeyPairInput{
		KeyType: types.KeyTypeEd25519, KeyFormat: types.KeyFormatPem,
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeKeyPair, tags)},
	}
	if s.Key.RSA {
		in.KeyType = types.KeyTypeRsa
	}
	for n := 0; ; n++ {
		in.KeyName = &s.Key.Name
		out, err := c.CreateKeyPair(ctx, in)
		if err == nil {
			s.Key.ID, m.key = aws.ToString(out.KeyPairId), secret.New(aws.ToString(out.KeyMaterial))
			if err := atomicfile.Write(file, []byte(m.key.Reveal()), 0o600); err != nil {
				return err
			}
			return m.readKey(s.Key.Name)
		}
		again := awsaccess.IsUncertain(err)
		if awsaccess.Code(err) == "InvalidKeyPair.Duplicate" {
			// Made by a call of ours whose answer was lost, or by somebody else.
			_, mine, ferr := m.findKey(ctx, c, r.RunID, s.Key.Name)
			if ferr != nil {
				return errors.Join(err, ferr)
			}
			if again = mine; !mine {
				s.Key.Begun = false // not ours to delete
			}
		}
		if n == 3 || ctx.Err() != nil || !again {
			return err
		}
		if derr := m.deleteKey(ctx, c, s.Key.Name); derr != nil {
			return errors.Join(err, derr)
		}
	}
}

func (m *machine) deleteKey(ctx context.Context, c cloud, name string) error {
	_, err := c.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: &name})
	return gone(err, "InvalidKeyPair.NotFound")
}

func (m *machine) removeKey(ctx context.Context, r *builder.Run, s *state) error {
	if !s.Key.Begun {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if s.Key.ID == "" && m.comm.TemporaryKeyPairName != "" {
		// The user chose the name, and whether the key is ours is not known.
		_, mine, err := m.findKey(ctx, c, r.RunID, s.Key.Name)
		if err != nil || !mine {
			return err
		}
	}
	r.Say("Deleting temporary key pair %s", s.Key.Name)
	if err := m.deleteKey(ctx, c, s.Key.Name); err != nil {
		return err
	}
	s.Key, m.key, m.keyLine = keyState{}, secret.String{}, ""
	return nil
}
