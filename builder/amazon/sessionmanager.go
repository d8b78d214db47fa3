package amazon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/poll"
)

const (
	// sessionPlugin is AWS's own program for the protocol of the Session
	// Manager
	// (https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html).
	sessionPlugin = "session-manager-plugin"
	// sessionEnv hands the plugin the session with its token: everybody on
	// this computer sees a program's arguments. Plugins know it since version
	// 1.2.497.
	sessionEnv      = "AWS_SSM_START_SESSION_RESPONSE"
	sessionDocument = "AWS-StartPortForwardingSession"
	sessionTime     = 15 * time.Minute // until the guest's agent has reported
)

// A tunnel is a port here that leads to the communicator's port in the guest.
type tunnel struct {
	port int
	id   string
	stop context.CancelFunc
	done chan struct{}
}

func (m *machine) checkPlugin() error {
	if m.run.Interface != "session_manager" {
		return nil
	}
	if _, err := exec.LookPath(sessionPlugin); err != nil {
		return diag.WithHint(fmt.Errorf(`ssh_interface = "session_manager" needs the program %s: %w`, sessionPlugin, err),
			"install AWS's Session Manager plugin, version 1.2.497 or later")
	}
	return nil
}

// openSession starts the tunnel through the Session Manager.
func (m *machine) openSession(ctx context.Context, r *builder.Run, s *state) error {
	if m.run.Interface != "session_manager" || m.tunnel != nil {
		return nil
	}
	sess, err := m.session(ctx)
	if err != nil {
		return err
	}
	if m.run.PauseBeforeSSM > 0 {
		r.Say("Waiting %s before the session is started (pause_before_ssm)", m.run.PauseBeforeSSM)
		if err := poll.Sleep(ctx, m.run.PauseBeforeSSM); err != nil {
			return err
		}
	}
	port := m.run.SessionPort
	held := func() {}
	if port == 0 {
		if port, held, err = holdPort(8000, 9000); err != nil {
			return err
		}
	}
	begun := false
	defer func() {
		if !begun {
			held()
		}
	}()
	in := &ssm.StartSessionInput{
		Target: &s.Instance.ID, DocumentName: aws.String(sessionDocument),
		Parameters: map[string][]string{"portNumber": {strconv.Itoa(m.port())}, "localPortNumber": {strconv.Itoa(port)}},
	}
	r.Say("Starting a session to instance %s, port %d here", s.Instance.ID, port)
	var out *ssm.StartSessionOutput
	c := ssmAPI(sess.SSM(""))
	err = sess.Wait(ctx, sessionTime, func(ctx context.Context) (bool, error) {
		out, err = c.StartSession(ctx, in)
		if awsaccess.Code(err) == "TargetNotConnected" {
			return false, nil
		}
		return err == nil, err
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		return diag.WithHint(fmt.Errorf("the agent in instance %s does not report: %w", s.Instance.ID, err),
			"the image needs amazon-ssm-agent, the instance profile the policy AmazonSSMManagedInstanceCore, and the subnet a way to the internet or endpoints of ssm")
	}
	if err != nil {
		return err
	}
	begun = true
	return m.startPlugin(ctx, sess, in, out, port, held)
}

// startPlugin starts the plugin and waits until its port takes connections.
// held is called when the port is free again.
func (m *machine) startPlugin(ctx context.Context, sess *awsaccess.Session, in *ssm.StartSessionInput, out *ssm.StartSessionOutput, port int, held func()) error {
	region := sess.Region()
	answer, err := json.Marshal(map[string]string{
		"SessionId": aws.ToString(out.SessionId), "StreamUrl": aws.ToString(out.StreamUrl), "TokenValue": aws.ToString(out.TokenValue),
	})
	if err != nil {
		return err
	}
	params, err := json.Marshal(map[string]any{"Target": in.Target, "DocumentName": in.DocumentName, "Parameters": in.Parameters})
	if err != nil {
		return err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(life, sessionPlugin, sessionEnv, region, "StartSession", m.access.Profile, string(params), sessionEndpoint(region, sess.Partition()))
	cmd.Env = append(os.Environ(), sessionEnv+"="+string(answer))
	var said ending
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second // a child of it may hold the pipe
	t := &tunnel{port: port, id: aws.ToString(out.SessionId), stop: stop, done: make(chan struct{})}
	m.tunnel = t // there is a session to end, whatever becomes of the plugin
	if err := cmd.Start(); err != nil {
		held()
		close(t.done)
		return fmt.Errorf("%s: %w", sessionPlugin, err)
	}
	var ended error
	go func() {
		ended = cmd.Wait()
		held()
		close(t.done)
	}()
	wait, over := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("%s did not open port %d", sessionPlugin, port))
	defer over()
	return poll.Until(wait, poll.Backoff{}, func(ctx context.Context) (bool, error) {
		select {
		case <-t.done:
			return false, fmt.Errorf("%s ended before it opened port %d (%v): %s", sessionPlugin, port, ended, said.text())
		default:
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return true, conn.Close()
	})
}

// sessionEndpoint is where the plugin finds the Session Manager.
func sessionEndpoint(region, partition string) string {
	host := "ssm." + region + ".amazonaws.com"
	if partition == "aws-cn" {
		host += ".cn"
	}
	return "https://" + host
}

// ending keeps the end of what a program says.
type ending struct {
	mu  sync.Mutex
	end []byte
}

func (e *ending) Write(p []byte) (int, error) {
	const most = 1 << 10
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end = append(e.end, p...)
	e.end = e.end[max(0, len(e.end)-most):]
	return len(p), nil
}

func (e *ending) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.TrimSpace(string(e.end))
}

// closeSession ends the tunnel of this process; one of a process that is gone
// ends with the instance.
func (m *machine) closeSession(ctx context.Context, _ *builder.Run, _ *state) error {
	t := m.tunnel
	if t == nil {
		return nil
	}
	t.stop()
	<-t.done
	m.tunnel = nil
	sess, err := m.session(ctx)
	if err != nil {
		return err
	}
	_, err = ssmAPI(sess.SSM("")).TerminateSession(ctx, &ssm.TerminateSessionInput{SessionId: &t.id})
	return gone(err, "DoesNotExistException")
}

// holdPort returns a port on which nothing listens and that no other build, of
// this process or another, is given before release: the plugin takes it later.
func holdPort(low, high int) (port int, release func(), err error) {
	n := high - low + 1
	first := rand.IntN(n) //nolint:gosec // not a secret
	for i := range n {
		p := low + (first+i)%n
		lock, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("ingot-port-%d.lock", p)), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			continue // another user's
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			if err == nil {
				_ = l.Close() // nothing was accepted
				return p, func() { _ = unix.Flock(int(lock.Fd()), unix.LOCK_UN); _ = lock.Close() }, nil
			}
		}
		_ = lock.Close() // it was not ours
	}
	return 0, nil, fmt.Errorf("no port from %d to %d is free for the session", low, high)
}
