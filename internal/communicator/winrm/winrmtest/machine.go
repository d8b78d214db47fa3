package winrmtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Machine is what commands work on: files, a registry, a uptime.
type Machine struct {
	root    string // holds a folder for each drive, all names in lower case
	restart func()

	mu       sync.Mutex
	boot     time.Time
	registry map[string]bool
	ran      []string // command lines
	users    []string // whom scheduled tasks ran as
}

func newMachine(root string) *Machine {
	return &Machine{root: root, boot: time.Now().Add(-time.Hour), registry: map[string]bool{}}
}

// local is where a path of the guest is kept. Windows does not tell upper from
// lower case.
func (m *Machine) local(name string) string {
	p := strings.ToLower(strings.ReplaceAll(name, `\`, "/"))
	if len(p) >= 2 && p[1] == ':' {
		p = p[:1] + "/" + p[2:]
	} else {
		p = "c/users/administrator/" + p
	}
	return filepath.Join(m.root, filepath.Clean("/"+p))
}

func (m *Machine) booted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot = time.Now()
}

// Uptime is how long the guest has been up.
func (m *Machine) Uptime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.boot)
}

// SetKey makes a registry key be there or not.
func (m *Machine) SetKey(key string, there bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registry[strings.ToLower(key)] = there
}

// Ran returns the command lines so far.
func (m *Machine) Ran() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ran)
}

// TaskUsers returns whom scheduled tasks ran as.
func (m *Machine) TaskUsers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.users)
}

// Files returns the names in a folder of the guest, in lower case.
func (m *Machine) Files(folder string) []string {
	list, _ := os.ReadDir(m.local(folder))
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// A process is one program at work.
type process struct {
	ctx            context.Context
	m              *Machine
	stdin          io.Reader
	stdout, stderr io.Writer
	env            map[string]string
}

// cmd runs a line as cmd.exe /c does and returns its exit code.
func (m *Machine) cmd(p *process, line string) int {
	m.mu.Lock()
	m.ran = append(m.ran, line)
	m.mu.Unlock()
	return p.line(line)
}

// line runs commands joined by &&, || and &.
func (p *process) line(line string) int {
	code := 0
	for line != "" {
		part, op, rest := cutOperator(line)
		code = p.command(strings.TrimSpace(part))
		line = rest
		for op == "&&" && code != 0 || op == "||" && code == 0 {
			_, op, line = cutOperator(line)
		}
	}
	return code
}

func cutOperator(line string) (first, op, rest string) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case quoted:
		case strings.HasPrefix(line[i:], "&&"), strings.HasPrefix(line[i:], "||"):
			return line[:i], line[i : i+2], line[i+2:]
		case line[i] == '&' && (i == 0 || line[i-1] != '>'):
			return line[:i], "&", line[i+1:]
		}
	}
	return line, "", ""
}

// expand replaces %NAME%.
func (p *process) expand(s string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "%")
		name, after, ok2 := strings.Cut(rest, "%")
		if !ok || !ok2 || strings.ContainsAny(name, " \"'") {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(before)
		if v, there := p.variable(name); there {
			b.WriteString(v)
		} else {
			b.WriteString("%" + name + "%")
		}
		s = after
	}
}

func (p *process) variable(name string) (string, bool) {
	for k, v := range p.env {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	switch strings.ToLower(name) {
	case "computername":
		return "WIN-TEST", true
	case "temp":
		return `C:\Windows\Temp`, true
	case "systemroot":
		return `C:\Windows`, true
	case "processor_architecture":
		return "AMD64", true
	}
	return "", false
}

// words splits a line; a quote may be anywhere in a word.
func words(line string) (out []string) {
	var b strings.Builder
	quoted, any := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				out = append(out, b.String())
			}
			b.Reset()
			any = false
		default:
			b.WriteRune(r)
			any = true
		}
	}
	if any {
		out = append(out, b.String())
	}
	return out
}

func (p *process) command(line string) int {
	line = strings.TrimPrefix(p.expand(line), "@")
	if line == "" {
		return 0
	}
	if i := redirect(line); i >= 0 {
		target := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line[i+1:]), "2>&1"))
		f, err := os.Create(p.m.local(strings.Trim(target, `"`)))
		if strings.EqualFold(target, "nul") {
			f, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		}
		if err != nil {
			return p.fail(err.Error())
		}
		defer f.Close()
		q := *p
		q.stdout, q.stderr = f, f
		return q.command(strings.TrimSpace(line[:i]))
	}
	w := words(line)
	name := strings.ToLower(strings.TrimSuffix(w[0], ".exe"))
	rest := strings.TrimSpace(strings.TrimPrefix(line, w[0]))
	switch name {
	case "echo":
		fmt.Fprintf(p.stdout, "%s\r\n", rest)
	case "rem", "ver", "chcp":
	case "set":
		k, v, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(rest, `"`), `"`), "=")
		p.env[k] = v
	case "exit":
		code, _ := strconv.Atoi(w[len(w)-1])
		return code
	case "sort", "findstr", "more": // programs that read their input
		_, err := io.Copy(p.stdout, p.stdin)
		if err != nil {
			return 1
		}
	case "waitfor": // runs until it is ended
		<-p.ctx.Done()
		return -1
	case "hostname":
		fmt.Fprint(p.stdout, "WIN-TEST\r\n")
	case "type":
		b, err := os.ReadFile(p.m.local(w[len(w)-1]))
		if err != nil {
			return p.fail("The system cannot find the file specified.")
		}
		_, _ = p.stdout.Write(b)
	case "del":
		for _, f := range w[1:] {
			if !strings.HasPrefix(f, "/") {
				_ = os.Remove(p.m.local(f))
			}
		}
	case "shutdown":
		return p.shutdown(w[1:])
	case "cmd":
		rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(rest, "/c"), "/C"))
		if len(rest) > 1 && rest[0] == '"' && rest[len(rest)-1] == '"' {
			rest = rest[1 : len(rest)-1]
		}
		return p.line(rest)
	case "powershell", "pwsh":
		return p.powershell(rest)
	default:
		if strings.HasSuffix(name, ".bat") || strings.HasSuffix(name, ".cmd") {
			return p.batch(w[0])
		}
		p.fail(fmt.Sprintf("'%s' is not recognized as an internal or external command,\r\noperable program or batch file.", w[0]))
		return 1
	}
	return 0
}

// redirect finds an output redirection outside quotes.
func redirect(line string) int {
	quoted := false
	for i := range line {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == '>' && !quoted && (i == 0 || line[i-1] != '2'):
			return i
		}
	}
	return -1
}

func (p *process) fail(text string) int {
	fmt.Fprintf(p.stderr, "%s\r\n", text)
	return 1
}

func (p *process) shutdown(args []string) int {
	for i, a := range args {
		switch strings.ToLower(a) {
		case "/a":
			return 1116 // nothing to abort
		case "/t":
			if i+1 < len(args) && args[i+1] != "0" {
				return 0
			}
		}
	}
	p.m.restart()
	return 0
}

func (p *process) batch(name string) int {
	b, err := os.ReadFile(p.m.local(name))
	if err != nil {
		return p.fail("The system cannot find the path specified.")
	}
	code := 0
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		code = p.line(line)
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "exit") {
			break
		}
	}
	return code
}
