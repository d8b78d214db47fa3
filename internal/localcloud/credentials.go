package localcloud

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"
)

// A Credential is an access key of this cloud. The root one is made with the
// cloud; the others are of assumed roles and end. They guard nothing beyond
// this machine: they are here so that signatures are checked as they are
// elsewhere.
type Credential struct {
	AccessKey, Secret string
	Token             string    `json:",omitempty"` // of temporary ones
	ARN               string    // who it is
	UserID            string    //
	Expires           time.Time // zero: never
}

// RecordKind implements [Record].
func (Credential) RecordKind() string { return "credential" }

// RecordID implements [Record].
func (c Credential) RecordID() string { return c.AccessKey }

const rootARN = "arn:aws:iam::" + AccountID + ":root"

// Root returns the cloud's own credential, and makes it the first time.
func (c *Cloud) Root(ctx context.Context) (Credential, error) {
	root, err := c.findRoot(ctx)
	if err != nil || root.AccessKey != "" {
		return root, err
	}
	err = c.Update(ctx, "", func(t *Tx) error {
		all, err := All[Credential](t)
		if err != nil {
			return err
		}
		for _, k := range all {
			if k.ARN == rootARN {
				root = k
				return nil
			}
		}
		root = NewCredential("AKIA", rootARN, AccountID)
		return Put(t, root)
	})
	return root, err
}

func (c *Cloud) findRoot(ctx context.Context) (root Credential, err error) {
	err = c.View(ctx, "", func(t *Tx) error {
		all, err := All[Credential](t)
		for _, k := range all {
			if k.ARN == rootARN {
				root = k
			}
		}
		return err
	})
	return root, err
}

// NewCredential returns a random access key. prefix is AKIA for lasting ones
// and ASIA for temporary ones.
func NewCredential(prefix, arn, userID string) Credential {
	return Credential{
		AccessKey: prefix + strings.ToUpper(randomHex(8)), Secret: randomText(30), ARN: arn, UserID: userID,
	}
}

// NewSession returns a temporary credential.
func NewSession(arn, userID string, expires time.Time) Credential {
	c := NewCredential("ASIA", arn, userID)
	c.Token, c.Expires = randomText(96), expires
	return c
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(b)
}
