package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	gossh "golang.org/x/crypto/ssh"
)

// A goServer is an SSH server in this process, for what OpenSSH cannot be
// brought to do without changing the machine's accounts.
type goServer struct {
	ln      net.Listener
	hostPub string
	dials   sync.Map // "host:port" that clients had it connect to
	execs   func(ch gossh.Channel, req *gossh.Request)
}

func newGoServer(t *testing.T, cfg *gossh.ServerConfig) *goServer {
	t.Helper()
	pem, pub, err := GenerateKey("ecdsa", 256, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.ParsePrivateKey([]byte(pem.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	cfg.AddHostKey(signer)
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	s := &goServer{ln: ln, hostPub: pub, execs: runShell}
	ctx, stop := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				s.serve(conn, cfg)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); stop(); tasks.Wait() })
	return s
}

func (s *goServer) target() Target {
	addr := s.ln.Addr().(*net.TCPAddr)
	return Target{Host: "127.0.0.1", Port: addr.Port, User: "somebody", HostKeys: []string{s.hostPub}}
}

func (s *goServer) serve(conn net.Conn, cfg *gossh.ServerConfig) {
	c, chans, reqs, err := gossh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	defer c.Close() //nolint:errcheck // test
	go gossh.DiscardRequests(reqs)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for nc := range chans {
		switch nc.ChannelType() {
		case "session":
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				for req := range reqs {
					if req.Type == "exec" {
						tasks.Go(func() { s.execs(ch, req) })
					} else {
						_ = req.Reply(false, nil)
					}
				}
			})
		case "direct-tcpip":
			tasks.Go(func() { s.directTCP(nc) })
		default:
			_ = nc.Reject(gossh.UnknownChannelType, "no")
		}
	}
}

func (s *goServer) directTCP(nc gossh.NewChannel) {
	var to struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	_ = gossh.Unmarshal(nc.ExtraData(), &to)
	addr := net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))
	s.dials.Store(addr, true)
	conn, err := net.Dial("tcp", addr) //nolint:noctx // at once
	if err != nil {
		_ = nc.Reject(gossh.ConnectionFailed, err.Error())
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	go gossh.DiscardRequests(reqs)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(conn, ch); _ = conn.Close() })
	both.Go(func() { _, _ = io.Copy(ch, conn); _ = ch.Close() })
	both.Wait()
}

// runShell is what an SSH server does for an exec request.
func runShell(ch gossh.Channel, req *gossh.Request) {
	defer ch.Close() //nolint:errcheck // test
	var line struct{ Text string }
	_ = gossh.Unmarshal(req.Payload, &line)
	_ = req.Reply(true, nil)
	cmd := exec.Command("/bin/sh", "-c", line.Text) //nolint:noctx // ends with its input
	in, _ := cmd.StdinPipe()
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	go func() { _, _ = io.Copy(in, ch); _ = in.Close() }()
	err := cmd.Run()
	status := struct{ Status uint32 }{}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status.Status = uint32(exit.ExitCode()) //nolint:gosec // test
	}
	_, _ = ch.SendRequest("exit-status", false, gossh.Marshal(&status))
}

func onlyPassword(want string) *gossh.ServerConfig {
	return &gossh.ServerConfig{PasswordCallback: func(_ gossh.ConnMetadata, got []byte) (*gossh.Permissions, error) {
		if string(got) != want {
			return nil, fmt.Errorf("wrong password")
		}
		return nil, nil
	}}
}

func onlyQuestions(answers ...string) *gossh.ServerConfig {
	return &gossh.ServerConfig{KeyboardInteractiveCallback: func(_ gossh.ConnMetadata, ask gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
		var questions []string
		for i := range answers {
			questions = append(questions, fmt.Sprintf("Question %d: ", i))
		}
		got, err := ask("", "Please", questions, make([]bool, len(questions)))
		if err != nil {
			return nil, err
		}
		for i, a := range got {
			if a != answers[i] {
				return nil, errors.New("wrong answer")
			}
		}
		return nil, nil
	}}
}
