package amazon

import (
	"context"
	"encoding/base64"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/event"
)

// What cloud-init prints around the host keys.
const (
	keysBegin = "-----BEGIN SSH HOST KEY KEYS-----"
	keysEnd   = "-----END SSH HOST KEY KEYS-----"
)

var hostKeyLine = regexp.MustCompile(`(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+`)

// consoleKeys returns the host keys in the last whole block that a guest
// printed on its console; a guest that was started again prints another one.
// Other lines may run into the block, and the kernel may put its time before a
// line.
func consoleKeys(console string) []string {
	at := strings.LastIndex(console, keysBegin)
	if at < 0 {
		return nil
	}
	block, _, whole := strings.Cut(console[at+len(keysBegin):], keysEnd)
	if !whole {
		at = strings.LastIndex(console[:at], keysBegin)
		if at < 0 {
			return nil
		}
		block, _, _ = strings.Cut(console[at+len(keysBegin):], keysEnd)
	}
	var keys []string
	for line := range strings.Lines(block) {
		key := hostKeyLine.FindString(line)
		if key == "" {
			continue
		}
		if _, _, _, _, err := gossh.ParseAuthorizedKey([]byte(key)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// The pauses between looks at the console.
const (
	lookFirst = time.Second
	lookMax   = 15 * time.Second
	// lookTime is how long a guest that seems to be going to print its keys is
	// waited for, unless they are required.
	lookTime = 20 * time.Second
)

// A keyFinder finds out the guest's host keys when it shows one.
type keyFinder struct {
	m        *machine
	c        cloud
	r        *builder.Run
	instance string
	nitro    bool
	must     bool                                         // no key that was not printed is taken
	shown    func(context.Context) ([]string, error)      // what the guest shows
	now      func() time.Time                             //
	console  func(context.Context) (text string, _ error) // nil: GetConsoleOutput

	first, next time.Time
	pause       time.Duration
	known       []string
}

// hostKeys fills in t how the guest's host key is checked.
func (m *machine) hostKeys(c cloud, r *builder.Run, s *state, t *ssh.Target) {
	check := m.run.SSHHostKeyCheck
	if check != nil && !*check {
		return
	}
	f := &keyFinder{
		m: m, c: c, r: r, instance: s.Instance.ID, nitro: s.Instance.Nitro, must: check != nil && *check, now: time.Now, pause: lookFirst,
	}
	if m.comm.SSHBastionHost == "" && m.comm.SSHProxyHost == "" {
		addr := net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
		f.shown = func(ctx context.Context) ([]string, error) { return shownKeys(ctx, addr) }
	}
	f.console = f.read
	t.HostKeyFunc = f.find
}

// find is asked each time the guest shows a key, until it answers.
func (f *keyFinder) find(ctx context.Context) ([]string, error) {
	if len(f.known) > 0 {
		return f.known, nil
	}
	now := f.now()
	if f.first.IsZero() {
		f.first = now
	}
	if now.Before(f.next) {
		return nil, nil
	}
	f.next, f.pause = now.Add(f.pause), min(2*f.pause, lookMax)
	text, err := f.console(ctx)
	if err != nil {
		if f.must {
			return nil, err
		}
		f.r.Events.Emit(event.Detail{Text: "console: " + err.Error()})
		return f.trust(ctx)
	}
	if keys := consoleKeys(text); len(keys) > 0 {
		f.known = keys
		return keys, nil
	}
	// A guest with cloud-init prints them a few seconds after it answers.
	if f.must || strings.Contains(text, "cloud-init") && now.Sub(f.first) < lookTime {
		return nil, nil
	}
	return f.trust(ctx)
}

// trust holds on to the key that the guest shows now.
func (f *keyFinder) trust(ctx context.Context) ([]string, error) {
	if f.shown == nil {
		return nil, errNoHostKey
	}
	keys, err := f.shown(ctx)
	if err != nil || len(keys) == 0 {
		return nil, nil //nolint:nilerr // not known yet: asked again with the next try
	}
	f.r.Events.Emit(event.Warn{Text: "The guest did not print its SSH host key on its console: the key it showed first is taken for its own."})
	f.known = keys
	return keys, nil
}

// read reads the console. Only instances on Nitro have the latest output.
func (f *keyFinder) read(ctx context.Context) (string, error) {
	in := &ec2.GetConsoleOutputInput{InstanceId: &f.instance}
	if f.nitro {
		in.Latest = aws.Bool(true)
	}
	out, err := f.c.GetConsoleOutput(ctx, in)
	if f.nitro && awsaccess.Code(err) == "UnsupportedOperation" {
		f.nitro = false
		in.Latest = nil
		out, err = f.c.GetConsoleOutput(ctx, in)
	}
	if err != nil {
		return "", err
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(aws.ToString(out.Output)))
	return string(text), err
}

// shownKeys returns the host key that the server at addr shows.
func shownKeys(ctx context.Context, addr string) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var shown gossh.PublicKey
	_, _, _, err = gossh.NewClientConn(conn, addr, &gossh.ClientConfig{
		HostKeyCallback: func(_ string, _ net.Addr, key gossh.PublicKey) error {
			shown = key
			return errSeen
		},
	})
	if shown == nil {
		return nil, err
	}
	return []string{strings.TrimSpace(string(gossh.MarshalAuthorizedKey(shown)))}, nil
}
