// Package winrmtest is a Windows guest for tests, as far as WinRM shows one: a
// server that speaks WS-Management over HTTP with logins, shells, commands,
// streams and faults, and behind it a small cmd.exe and PowerShell that work on
// a folder. What the real ones do beyond that is not told by tests with it.
package winrmtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm/ntlm"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
)

// Options is how the guest is set up. The zero value takes Basic and NTLM, and
// plain messages.
type Options struct {
	TLS         bool
	NoBasic     bool // as Windows is by default
	NoNTLM      bool
	Sealed      bool // over HTTP only sealed messages are taken, as Windows is by default
	MaxShells   int  // 0: 30
	MaxEnvelope int  // bytes; 0: 500 KiB
	// Told, when not nil, is asked at every request; what it returns other
	// than 0 is answered as HTTP status.
	Told func(action string) int
}

// The account that is let in.
const (
	User     = "Administrator"
	Password = "p&ss\"wörd"
)

// A Server is a guest. It ends with the test.
type Server struct {
	Host string
	Port int
	*Machine

	o    Options
	t    testing.TB
	mu   sync.Mutex
	http *httptest.Server

	conns  map[string]*login // by the client's address
	shells map[string]*shell
	asked  map[string]int // actions so far, by their last word
	next   int

	over    bool // the test has ended
	reboots sync.WaitGroup
}

// A login is what one TCP connection has come to.
type login struct {
	negotiate, challenge []byte
	session              *ntlm.Session
}

// Start starts a guest on the loopback interface.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.MaxShells == 0 {
		o.MaxShells = 30
	}
	if o.MaxEnvelope == 0 {
		o.MaxEnvelope = 512000
	}
	s := &Server{Host: "127.0.0.1", o: o, t: t, asked: map[string]int{}, Machine: newMachine(t.TempDir())}
	s.Machine.restart = s.reboot
	s.listen("127.0.0.1:0")
	t.Cleanup(func() {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.reboots.Wait()
		s.Stop()
	})
	return s
}

func (s *Server) listen(addr string) {
	var ln net.Listener
	// The port may be that of somebody's connection for a moment.
	err := poll.Until(s.t.Context(), poll.Backoff{}, func(context.Context) (bool, error) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil, nil
	})
	if err != nil {
		return // the test is over
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		_ = ln.Close()
		return
	}
	s.Port = ln.Addr().(*net.TCPAddr).Port
	s.conns, s.shells = map[string]*login{}, map[string]*shell{}
	h := httptest.NewUnstartedServer(s)
	_ = h.Listener.Close()
	h.Listener = ln
	h.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that hang up
	if s.o.TLS {
		h.StartTLS()
	} else {
		h.Start()
	}
	s.http = h
}

// Stop takes the guest off the network; its shells and what runs in them are
// gone.
func (s *Server) Stop() {
	s.mu.Lock()
	h := s.http
	s.http = nil
	all := s.shells
	s.shells = map[string]*shell{}
	s.mu.Unlock()
	if h == nil {
		return
	}
	for _, sh := range all {
		sh.end()
	}
	h.CloseClientConnections()
	h.Close()
}

// Restart brings the guest back, at the same address.
func (s *Server) Restart() { s.listen(net.JoinHostPort(s.Host, strconv.Itoa(s.Port))) }

// reboot is what shutdown /r does: it returns at once, and the guest is away
// and comes back, while its uptime begins anew.
func (s *Server) reboot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.reboots.Go(func() {
		s.Stop()
		s.booted()
		s.Restart()
	})
}

// Config is how the guest is connected to.
func (s *Server) Config() communicator.Config {
	c := communicator.Config{
		Communicator: "winrm", WinRMHost: s.Host, WinRMPort: s.Port, WinRMUsername: User, WinRMPassword: secret.New(Password),
		WinRMUseSSL: s.o.TLS, WinRMInsecure: s.o.TLS, WinRMTimeout: 2 * time.Minute,
	}
	if err := c.Prepare(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// Data is what a builder would tell of the guest.
func (s *Server) Data() communicator.Data {
	return communicator.Data{
		BuildName: "win", BuilderType: "qemu", RunID: "run-1", ID: "vm-1", Host: s.Host, Port: s.Port, User: User,
		Password: secret.New(Password), WinRMPassword: secret.New(Password), ConnType: "winrm", HTTPIP: "10.0.2.2", HTTPPort: 8123,
	}
}

// Shells is how many shells are there now.
func (s *Server) Shells() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.shells)
}

// Asked is how often an action ("Create", "Send", …) was asked for.
func (s *Server) Asked(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[action]
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/wsman" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		return
	}
	s.mu.Lock()
	l := s.conns[r.RemoteAddr]
	if l == nil {
		l = &login{}
		s.conns[r.RemoteAddr] = l
	}
	s.mu.Unlock()
	if !s.authorize(w, r, l) {
		return
	}
	if len(body) == 0 {
		w.WriteHeader(http.StatusOK) // a request that only logs in
		return
	}
	sealed := strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/encrypted")
	if s.o.Sealed && !s.o.TLS && !sealed {
		http.Error(w, "unencrypted messages are not taken", http.StatusForbidden)
		return
	}
	if sealed {
		if l.session == nil {
			http.Error(w, "no session", http.StatusBadRequest)
			return
		}
		if body, err = open(l.session, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	status, answer := s.answer(body)
	if status == 0 {
		panic(http.ErrAbortHandler) // the guest went away under it
	}
	kind := "application/soap+xml;charset=UTF-8"
	if sealed {
		kind, answer = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`, seal(l.session, answer)
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// authorize lets a request pass, or answers it.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, l *login) bool {
	scheme, arg, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token, _ := base64.StdEncoding.DecodeString(arg)
	switch {
	case l.session != nil && scheme == "":
		return true
	case scheme == "Basic" && !s.o.NoBasic:
		if user, pw, _ := r.BasicAuth(); strings.EqualFold(user, User) && pw == Password {
			return true
		}
	case scheme == "Negotiate" && !s.o.NoNTLM && len(token) > 12 && token[8] == 1:
		nonce := make([]byte, 8)
		_, _ = rand.Read(nonce)
		l.negotiate, l.challenge = token, ntlm.NewChallenge(nonce, "WIN-TEST", time.Now())
		w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(l.challenge))
		w.WriteHeader(http.StatusUnauthorized)
		return false
	case scheme == "Negotiate" && !s.o.NoNTLM && l.challenge != nil:
		_, session, err := ntlm.Accept(l.negotiate, l.challenge, token, func(u string) (string, bool) {
			return Password, strings.EqualFold(u, User)
		})
		if err == nil {
			l.session = session
			return true
		}
	}
	if !s.o.NoNTLM {
		w.Header().Add("WWW-Authenticate", "Negotiate")
	}
	if !s.o.NoBasic {
		w.Header().Add("WWW-Authenticate", `Basic realm="WSMAN"`)
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

// open and seal are the parts of MS-WSMV 2.2.9.1.
func open(session *ntlm.Session, body []byte) ([]byte, error) {
	_, rest, ok := bytes.Cut(body, []byte("application/octet-stream\r\n"))
	end := bytes.LastIndex(rest, []byte("--Encrypted Boundary--"))
	if !ok || end < 20 || binary.LittleEndian.Uint32(rest) != 16 {
		return nil, fmt.Errorf("no sealed message in %d bytes", len(body))
	}
	_, after, ok := bytes.Cut(body, []byte(";Length="))
	digits, _, ok2 := bytes.Cut(after, []byte("\r\n"))
	n, err := strconv.Atoi(string(digits))
	if !ok || !ok2 || err != nil || n != end-20 {
		return nil, fmt.Errorf("the length told is %q, of %d", digits, end-20)
	}
	return session.Open(rest[20:end], rest[4:20])
}

func seal(session *ntlm.Session, p []byte) []byte {
	sealed, sig := session.Seal(p)
	var b bytes.Buffer
	fmt.Fprintf(&b, "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"+
		"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n"+
		"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n", len(p))
	b.Write([]byte{16, 0, 0, 0})
	b.Write(sig)
	b.Write(sealed)
	b.WriteString("--Encrypted Boundary--\r\n")
	return b.Bytes()
}

// A request is what all actions have.
type request struct {
	Action  string `xml:"Header>Action"`
	ID      string `xml:"Header>MessageID"`
	Shell   string `xml:"Header>SelectorSet>Selector"`
	Options []struct {
		Name  string `xml:"Name,attr"`
		Value string `xml:",chardata"`
	} `xml:"Header>OptionSet>Option"`
	Command string   `xml:"Body>CommandLine>Command"`
	Args    []string `xml:"Body>CommandLine>Arguments"`
	Receive struct {
		Command string `xml:"CommandId,attr"`
	} `xml:"Body>Receive>DesiredStream"`
	Send []struct {
		Command string `xml:"CommandId,attr"`
		End     string `xml:"End,attr"`
		Data    string `xml:",chardata"`
	} `xml:"Body>Send>Stream"`
	Signal struct {
		Command string `xml:"CommandId,attr"`
		Code    string `xml:"Code"`
	} `xml:"Body>Signal"`
}

// Faults.
const (
	noShell     = 2150858843
	noCommand   = 2150858845
	timedOut    = 2150858793
	overQuota   = 2150859174
	tooLong     = 2150858817
	badRequest  = 2150858752
	receiveTime = 500 * time.Millisecond // shorter than what the client asks for
)

func (s *Server) answer(body []byte) (int, []byte) {
	var r request
	if err := xml.Unmarshal(body, &r); err != nil {
		return fault(badRequest, err.Error())
	}
	status, answer := s.act(r, len(body))
	return status, bytes.Replace(answer, []byte("<s:Header/>"), []byte("<s:Header><a:RelatesTo>"+r.ID+"</a:RelatesTo></s:Header>"), 1)
}

func (s *Server) act(r request, size int) (int, []byte) {
	action := r.Action[strings.LastIndexByte(r.Action, '/')+1:]
	if s.o.Told != nil {
		if status := s.o.Told(action); status != 0 {
			return status, nil
		}
	}
	s.mu.Lock()
	s.asked[action]++
	sh, there := s.shells[r.Shell]
	s.mu.Unlock()
	switch {
	case size > s.o.MaxEnvelope:
		return fault(tooLong, "The WS-Management service cannot process the request because the request is longer than MaxEnvelopeSize")
	case action == "Create":
		return s.create()
	case !there:
		return fault(noShell, "The request for the Windows Remote Shell with ShellId "+r.Shell+" failed because the shell was not found on the server.")
	}
	switch action {
	case "Delete":
		s.mu.Lock()
		delete(s.shells, r.Shell)
		s.mu.Unlock()
		sh.end()
		return reply("")
	case "Command":
		return sh.command(r)
	case "Receive":
		return sh.receive(r.Receive.Command)
	case "Send":
		return sh.send(r)
	case "Signal":
		if c := sh.find(r.Signal.Command); c != nil {
			c.stop()
		}
		return reply("<rsp:SignalResponse/>")
	}
	return fault(badRequest, "the action "+r.Action+" is not known")
}

func (s *Server) create() (int, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		return 0, nil
	}
	if len(s.shells) >= s.o.MaxShells {
		return fault(overQuota, "The maximum number of concurrent shells for this user has been exceeded.")
	}
	s.next++
	id := fmt.Sprintf("5E11-%04d", s.next)
	s.shells[id] = &shell{m: s.Machine, commands: map[string]*command{}}
	return reply(`<x:ResourceCreated xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer"><a:ReferenceParameters>` +
		`<w:ResourceURI>cmd</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">` + id + `</w:Selector></w:SelectorSet>` +
		`</a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>` + id + `</rsp:ShellId></rsp:Shell>`)
}

const head = `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" ` +
	`xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header/><s:Body>`

func reply(body string) (int, []byte) {
	return http.StatusOK, []byte(head + body + `</s:Body></s:Envelope>`)
}

func fault(code uint32, text string) (int, []byte) {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text))
	return http.StatusInternalServerError, fmt.Appendf(nil, head+`<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode>`+
		`<s:Value>w:InternalError</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">%[1]s</s:Text></s:Reason><s:Detail>`+
		`<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%[2]d" Machine="x"><f:Message>%[1]s</f:Message>`+
		`</f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>`, b.String(), code)
}

// WriteFile puts a file on the guest.
func (m *Machine) WriteFile(t testing.TB, name, content string) {
	t.Helper()
	p := m.local(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ReadFile returns a file of the guest, false when there is none.
func (m *Machine) ReadFile(name string) (string, bool) {
	p, err := os.ReadFile(m.local(name))
	return string(p), err == nil
}
