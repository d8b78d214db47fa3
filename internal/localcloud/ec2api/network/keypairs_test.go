package network_test

import (
	"crypto/ed25519"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"
)

func TestCreateKeyPair(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	for _, kind := range []types.KeyType{types.KeyTypeRsa, types.KeyTypeEd25519} {
		name := "key " + string(kind)
		k := must(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: &name, KeyType: kind, TagSpecifications: tagged("key-pair", "a", "b")}))(t)
		key, err := ssh.ParseRawPrivateKey([]byte(*k.KeyMaterial))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		d := must(c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{name}, IncludePublicKey: aws.Bool(true)}))(t).KeyPairs[0]
		line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + name
		if aws.ToString(d.PublicKey) != line || d.KeyType != kind || *d.KeyFingerprint != *k.KeyFingerprint || *d.KeyPairId != *k.KeyPairId || d.CreateTime == nil || len(d.Tags) != 1 {
			t.Errorf("%s: %+v", kind, d)
		}
		switch key.(type) {
		case *rsa.PrivateKey:
			if !strings.HasPrefix(*k.KeyMaterial, "-----BEGIN RSA PRIVATE KEY-----") || len(*k.KeyFingerprint) != 59 {
				t.Errorf("%s", *k.KeyFingerprint) // 20 octets, as SHA-1 has
			}
		case *ed25519.PrivateKey:
			if want := strings.TrimPrefix(ssh.FingerprintSHA256(signer.PublicKey()), "SHA256:") + "="; *k.KeyFingerprint != want {
				t.Errorf("%s, want %s", *k.KeyFingerprint, want)
			}
		}
		_, err = c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: &name, KeyType: kind})
		refused(t, "the same name", err, "InvalidKeyPair.Duplicate")
	}
	ppk := must(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("putty"), KeyType: "ed25519", KeyFormat: types.KeyFormatPpk}))(t)
	if !strings.HasPrefix(*ppk.KeyMaterial, "PuTTY-User-Key-File-2: ssh-ed25519\r\n") || !strings.Contains(*ppk.KeyMaterial, "\r\nPrivate-MAC: ") {
		t.Errorf("not of PuTTY's form, %d letters", len(*ppk.KeyMaterial))
	}
	_, err := c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("dsa"), KeyType: "dsa"})
	refused(t, "unknown type", err, "InvalidParameterValue")
	_, err = c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"none"}})
	refused(t, "unknown key", err, "InvalidKeyPair.NotFound")
	if n := len(must(s.ec2("eu-west-1").DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{}))(t).KeyPairs); n != 0 {
		t.Errorf("%d keys in another region", n)
	}
}

// The fingerprints are of ssh-keygen and openssl, for keys made for this test.
func TestImportKeyPair(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	for _, tt := range []struct{ name, public, fingerprint string }{
		{"ed", edPublic, edFingerprint},
		{"rsa", rsaPublic, rsaFingerprint},
		{"body", strings.Fields(rsaPublic)[1], rsaFingerprint},
		{"rfc4716", "---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"x\"\n" + strings.Fields(rsaPublic)[1] + "\n---- END SSH2 PUBLIC KEY ----\n", rsaFingerprint},
	} {
		k, err := c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: &tt.name, PublicKeyMaterial: []byte(tt.public)})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if aws.ToString(k.KeyFingerprint) != tt.fingerprint {
			t.Errorf("%s: %s, want %s", tt.name, *k.KeyFingerprint, tt.fingerprint)
		}
	}
	_, err := c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: aws.String("bad"), PublicKeyMaterial: []byte("ssh-rsa AAAA")})
	refused(t, "not a key", err, "InvalidKey.Format")
	_, err = c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: aws.String("ed"), PublicKeyMaterial: []byte(edPublic)})
	refused(t, "the same name", err, "InvalidKeyPair.Duplicate")

	id := must(c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: filters("fingerprint", edFingerprint)}))(t).KeyPairs[0].KeyPairId
	out := must(c.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyPairId: id}))(t)
	if !aws.ToBool(out.Return) || aws.ToString(out.KeyPairId) != *id {
		t.Errorf("%+v", out)
	}
	for _, in := range []*ec2.DeleteKeyPairInput{{KeyPairId: id}, {KeyName: aws.String("ed")}, {KeyName: aws.String("rsa")}} {
		if out := must(c.DeleteKeyPair(ctx, in))(t); !aws.ToBool(out.Return) {
			t.Errorf("%+v", out)
		}
	}
	if n := len(must(c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{}))(t).KeyPairs); n != 2 {
		t.Errorf("%d keys are left", n)
	}
}

const (
	edPublic       = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIARgKfYr2hI/qJCVC++YztPKKkyCmzu3pQ6JDZMWbnGQ "
	edFingerprint  = "2WddmlAOOgQ0Wz+tNGZA9BJZW7jPhPUU6/inXTqSb8s="
	rsaPublic      = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCyf8RTRhu58l2td0MHdnqYloabYFnoytLmTsbPS72PLA9yEfIh7h+rAsBujlPBlFqE6nE06gDBOtz81zZcamzKXMBMNjVg0nPp1MKHSoj8v1hsei7DRqdD6dpCzXfixndOpufu5HT2bXks2v0CSHpNT0zb/2GloJWYjaM3DUmP5hAWSoGaxdM20aPKCxzWcx7HZ00brxOMTreDRN14HNic6AjxERp13Ot+T/CHZK29j/F8gG9RlnJwUCHuKBUbsKtwuoEN/IFTZI4NQZatQmq0Ainq591cleWJYzdXfYyo00TYWTWhELny5ZHopKKSvnygVCWP8XhOGksiMC1caQoJ "
	rsaFingerprint = "b7:f0:5e:7b:72:84:8c:93:97:ff:59:c8:35:82:ee:47"
)
