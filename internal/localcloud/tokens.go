package localcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// tokenLife is how long a client token is remembered, maxToken how long it
// may be.
// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
const (
	tokenLife = 24 * time.Hour
	maxToken  = 64
)

// Token looks up an earlier call with the same client token. used is true when
// there was one with the same parameters: results are what it gave to
// [Tx.SaveToken]. Other parameters are IdempotentParameterMismatch. An empty
// token was never used.
func (t *Tx) Token(action, token string, params any) (results []string, used bool, err error) {
	if token == "" {
		return nil, false, nil
	}
	if len(token) > maxToken {
		return nil, false, Errorf("InvalidParameterValue", "Value (%s) for parameter clientToken is invalid. It must be no longer than %d characters", token, maxToken)
	}
	u, ok, err := Get[TokenUse](t, TokenUse{Action: action, Token: token}.RecordID())
	if err != nil || !ok || t.Now.Sub(u.At) > tokenLife {
		return nil, false, err
	}
	digest, err := digestOf(params)
	if err != nil {
		return nil, false, err
	}
	if digest != u.Digest {
		return nil, false, Errorf("IdempotentParameterMismatch", "The client token %q was used before with other parameters. Use a new token for another request", token)
	}
	return slices.Clone(u.Results), true, nil
}

// SaveToken remembers what a call with a client token made; an empty token is
// not remembered. params are those given to [Tx.Token].
func (t *Tx) SaveToken(action, token string, params any, results ...string) error {
	if token == "" {
		return nil
	}
	digest, err := digestOf(params)
	if err != nil {
		return err
	}
	return Put(t, TokenUse{Action: action, Token: token, Digest: digest, Results: results, At: t.Now})
}

func digestOf(params any) (string, error) {
	js, err := json.Marshal(params)
	if err != nil {
		return "", fmt.Errorf("local cloud: parameters of a client token: %w", err)
	}
	sum := sha256.Sum256(js)
	return hex.EncodeToString(sum[:]), nil
}
