package amazon

import (
	"github.com/ingot-build/ingot/builder"
)

// state is what the journal knows of a build. An id is here as soon as it is
// known; Begun marks are saved before a thing is asked for that AWS makes anew
// with each call.
type state struct {
	Region string
	Name   string // of the image, rendered
	// Attempt makes names and client tokens of this attempt differ from those
	// of one that was undone: AWS remembers a token longer than the instance
	// it made.
	Attempt  string
	Source   source
	Network  network
	Key      keyState
	Group    thing
	Profile  profileState
	Template thing
	Instance instanceState
	Stopped  bool
	Swap     swapState
	Image    imageState
	// Snapshots of the surrogate's devices, or of the volumes of ebsvolume.
	Snapshots []snapshotState
}

// thing is one resource with a name and an id.
type thing struct {
	Begun bool // it may exist
	Name  string
	ID    string
}

type keyState struct {
	thing
	RSA bool
}

// profileState's ID is its name again once the profile is complete.
type profileState struct{ thing }

type network struct {
	VPC    string
	Subnet string
	Zone   string
	Groups []string // given by the user
	Others []place  // where it may be as well
}

// place is where an instance may run; empty: where AWS likes.
type place struct{ Subnet, Zone string }

type instanceState struct {
	Begun   bool
	ID      string
	Type    string
	Zone    string
	Spot    bool
	Nitro   bool
	Key     string // name of the key pair it was started with
	Volumes []volumeState
	Gone    bool // its end was asked for
}

type volumeState struct {
	Device string
	ID     string
	Delete bool // with the instance
}

type imageState struct {
	Begun     bool
	ID        string
	Name      string
	Available bool
	TagLater  bool // the snapshots have no tags yet
	Snapshots []snapshotState
}

type snapshotState struct {
	Device string
	Volume string
	ID     string
	Begun  bool
	Size   int64 // GiB
	Done   bool
}

type swapState struct {
	Detached []string // volumes taken off the instance
	Root     string   // volume that is the root now
	Done     bool
}

// token is a client token of this attempt.
func (s *state) token(r *builder.Run, what string) string { return r.Token(what + " " + s.Attempt) }
