// Package communicator is what the rest of Ingot knows of a live connection
// to one guest.
package communicator

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/ingot-build/ingot/internal/secret"
)

// A Cmd is one command for the guest's shell.
type Cmd struct {
	Line   string    // handed to the login shell as it is
	Stdin  io.Reader // nil: end of file at once
	Stdout io.Writer // nil: dropped
	Stderr io.Writer // nil: dropped; with a pty everything comes on Stdout
}

// A Communicator is one live connection to one guest. All methods may be
// called from several goroutines at a time, end when ctx does, and return
// *[DisconnectError] when the connection broke under them. A method called
// after a break first connects anew.
type Communicator interface {
	// Run returns nil when the command ended with status 0, *[ExitError]
	// when it ended otherwise or was killed by a signal; any other error is
	// about the connection. A session that ended without a status is a
	// *[DisconnectError], never a success.
	Run(ctx context.Context, c Cmd) error

	// Put writes src to the file dst on the guest with mode (its permission
	// bits). A second Put with the same dst replaces the first. size is a
	// promise about src in bytes, -1 when not known.
	Put(ctx context.Context, dst string, mode fs.FileMode, src io.Reader, size int64) error

	// PutTree copies the content of src into the folder dst, which is made
	// when missing: names, permission bits, symbolic links. progress, when
	// not nil, is told the bytes done so far.
	PutTree(ctx context.Context, dst string, src fs.FS, progress func(done int64)) error

	// Get writes the guest's file src to dst.
	Get(ctx context.Context, src string, dst io.Writer) error

	// GetTree copies the guest's folder src into the local folder dst. A name
	// the guest sends can never lead out of dst.
	GetTree(ctx context.Context, src, dst string) error

	// Close ends the connection. It may be called twice.
	Close() error
}

// A Script is a file to be brought to the guest and run there.
type Script struct {
	Path   string      // where it is put
	Mode   fs.FileMode // permission bits
	Body   []byte
	Extra  []ScriptFile // put beside it, before it runs
	Line   string       // the command that runs it
	Keep   bool         // leave Path and Extra on the guest afterwards
	Stdout io.Writer
	Stderr io.Writer
}

// A ScriptFile is a further file a [Script] needs.
type ScriptFile struct {
	Path string
	Mode fs.FileMode
	Body []byte
}

// A ScriptRunner is a [Communicator] that can put, run and remove a script in
// one exchange, which saves round trips. Errors are those of Run; a *[PutError]
// means that the script was not started. When the connection broke, the files
// may still be on the guest.
type ScriptRunner interface {
	RunScript(ctx context.Context, s Script) error
}

// PutError says that a file could not be written on the guest.
type PutError struct {
	Path string
	Err  error
}

func (e *PutError) Error() string { return fmt.Sprintf("write %s on the guest: %v", e.Path, e.Err) }
func (e *PutError) Unwrap() error { return e.Err }

// ExitError says that a command ran and failed.
type ExitError struct {
	Status int    // 1 to 255; 128 + signal number where a signal ended it
	Signal string // "KILL", … or ""
}

func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "command was ended by signal " + e.Signal
	}
	return fmt.Sprintf("command ended with exit status %d", e.Status)
}

// DisconnectError says that the connection ended before the command did.
type DisconnectError struct{ Err error }

func (e *DisconnectError) Error() string {
	if e.Err == nil {
		return "the connection to the guest was lost"
	}
	return fmt.Sprintf("the connection to the guest was lost: %v", e.Err)
}
func (e *DisconnectError) Unwrap() error { return e.Err }

// AuthError says that the guest answered and refused every credential.
type AuthError struct {
	User string
	Err  error
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("the guest refused to authenticate user %q: %v", e.User, e.Err)
}
func (e *AuthError) Unwrap() error { return e.Err }

// HostKeyError says that the guest showed a host key other than the pinned one.
type HostKeyError struct{ Host, Want, Got string } // fingerprints

func (e *HostKeyError) Error() string {
	return fmt.Sprintf("host key of %s is %s, not %s as expected: this is another machine, or somebody is in between", e.Host, e.Got, e.Want)
}

// Reach tells why a guest could not be reached.
type Reach string

// The reasons.
const (
	Refused     Reach = "refused"     // the machine answers, nothing listens on the port
	Unreachable Reach = "unreachable" // no route, no such host
	Silent      Reach = "silent"      // connects, and then no SSH banner or no answer at all
)

// ConnectError says that the guest was not reached within the time.
type ConnectError struct {
	Addr   string
	Why    Reach
	Waited time.Duration
	Err    error // of the last try
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("no connection to %s after %s (%s): %v", e.Addr, e.Waited.Round(time.Second), e.Why, e.Err)
}
func (e *ConnectError) Unwrap() error { return e.Err }

// Data is what a template can ask about the guest as build.*.
type Data struct {
	BuildName     string // local name of the source, PACKER_BUILD_NAME
	BuilderType   string // PACKER_BUILDER_TYPE
	RunID         string // build.PackerRunUUID
	ID            string // instance or VM id
	Host          string
	Port          int
	User          string
	Password      secret.String
	ConnType      string // "ssh", "winrm", "none"
	HTTPIP        string // the builder's HTTP server as the guest sees it, "" without one
	HTTPPort      int
	SSHPublicKey  string
	SSHPrivateKey secret.String // PEM
	KeyFile       string        // path of a file with the private key, for tools that need one; "" without
	WinRMPassword secret.String
	Generated     map[string]string // what the builder declares besides
}

// A Guest is a running machine and the connection to it.
type Guest struct {
	Communicator      // never nil; [None] where there is no connection
	Data         Data //
}
