package localcloud

import "time"

// A Parameter is one of Systems Manager's parameter store.
type Parameter struct {
	Name, Type, Value, Description string // Type: String StringList SecureString
	DataType                       string // text, aws:ec2:image
	KeyID                          string
	Version                        int64
	Modified                       time.Time
	Tags                           Tags
}

// RecordKind implements [Record].
func (Parameter) RecordKind() string { return "parameter" }

// RecordID implements [Record].
func (p Parameter) RecordID() string { return p.Name }

// A Secret is one of Secrets Manager.
type Secret struct {
	Name, ARN, Description, KMSKeyID string
	Versions                         []SecretVersion // the newest last
	Created, Deleted                 time.Time       // Deleted: zero unless it is scheduled
	Tags                             Tags
}

// A SecretVersion is one value of a [Secret].
type SecretVersion struct {
	ID      string
	Stages  []string // AWSCURRENT, AWSPREVIOUS
	Text    *string
	Binary  []byte
	Created time.Time
}

// RecordKind implements [Record].
func (Secret) RecordKind() string { return "secret" }

// RecordID implements [Record].
func (s Secret) RecordID() string { return s.Name }
