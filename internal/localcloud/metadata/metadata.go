// Package metadata serves an instance's metadata as EC2 does at
// 169.254.169.254, versions 1 and 2
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html).
//
// A [Handler] is for one instance: whoever listens decides by the address who
// is asked about. Not served are the signatures of the identity document,
// which only AWS can make. The hop limit of an answer is up to the network.
package metadata

import (
	"context"
	"time"

	"github.com/ingot-build/ingot/internal/secret"
)

// A Source knows the instance.
type Source interface {
	// Instance returns what the instance is now. It is called for each
	// request, from many goroutines.
	Instance(ctx context.Context) (Instance, error)
}

// Instance is what is served. A field that is empty is left out, as EC2 does.
type Instance struct {
	Disabled       bool // HttpEndpoint "disabled": every request is answered 403
	TokensRequired bool // HttpTokens "required": version 1 is answered 401
	TagsEnabled    bool // InstanceMetadataTags "enabled"

	ID               string
	Type             string
	Architecture     string // x86_64, arm64
	LifeCycle        string // on-demand, spot; "" is on-demand
	LaunchTime       time.Time
	LaunchIndex      int
	ReservationID    string
	OwnerID          string // account
	ImageID          string
	Region           string
	AvailabilityZone string
	ZoneID           string
	Partition        string // "" is aws
	DomainSuffix     string // "" is amazonaws.com

	LocalHostname  string // ip-172-31-0-9.ec2.internal
	LocalIPv4      string
	PublicHostname string
	PublicIPv4     string
	MAC            string
	InterfaceID    string
	SubnetID       string
	SubnetCIDR     string
	VPCID          string
	VPCCIDRs       []string
	SecurityGroups []Group

	Keys     []Key
	Devices  []Device // the first is the root device
	Profile  *Profile
	Tags     map[string]string
	UserData []byte // as it was given, not in base64; nil: none
}

// Group is a security group.
type Group struct{ ID, Name string }

// Key is a key pair that may log in.
type Key struct{ Name, OpenSSH string }

// Device is a block device by the name it was attached under (/dev/xvda, sdf).
type Device struct {
	Name      string
	Ephemeral bool
}

// Profile is the instance profile and the credentials of its role.
type Profile struct {
	ARN, ID      string
	Role         string
	LastUpdated  time.Time
	AccessKeyID  string
	SecretKey    secret.String
	SessionToken secret.String
	Expiration   time.Time
}
