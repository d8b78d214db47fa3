package localcloud

import "time"

// A Role is an IAM role. Its policies are kept and not applied: nothing here
// is guarded by them. Roles and profiles are in region "".
type Role struct {
	Name, ID, Path, Description string
	TrustPolicy                 string
	Policies                    map[string]string // inline, by name
	Attached                    []string          // ARNs of managed policies
	MaxSession                  int
	Created                     time.Time
	Tags                        Tags
}

// RecordKind implements [Record].
func (Role) RecordKind() string { return "role" }

// RecordID implements [Record].
func (r Role) RecordID() string { return r.Name }

// ARN is the role's name in all of AWS.
func (r Role) ARN() string { return "arn:aws:iam::" + AccountID + ":role" + r.Path + r.Name }

// An InstanceProfile hands a role to instances.
type InstanceProfile struct {
	Name, ID, Path string
	Roles          []string // names; at most one
	Created        time.Time
	Tags           Tags
}

// RecordKind implements [Record].
func (InstanceProfile) RecordKind() string { return "instance-profile" }

// RecordID implements [Record].
func (p InstanceProfile) RecordID() string { return p.Name }

// ARN is the profile's name in all of AWS.
func (p InstanceProfile) ARN() string {
	return "arn:aws:iam::" + AccountID + ":instance-profile" + p.Path + p.Name
}
