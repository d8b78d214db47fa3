//lint:file-ignore ST1005 the errors are what PowerShell says

package winrmtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator/powershell"
)

// powershell runs powershell.exe with the given arguments.
func (p *process) powershell(args string) int {
	for args != "" {
		var w string
		w, args, _ = strings.Cut(strings.TrimSpace(args), " ")
		switch strings.ToLower(w) {
		case "-nologo", "-noprofile", "-noninteractive":
		case "-executionpolicy", "-outputformat", "-inputformat":
			_, args, _ = strings.Cut(strings.TrimSpace(args), " ")
		case "-encodedcommand":
			text, err := powershell.Decode(strings.TrimSpace(args))
			if err != nil {
				return p.fail(err.Error())
			}
			return p.script(text)
		case "-file":
			return p.file(strings.Trim(strings.TrimSpace(args), `"`))
		case "-command":
			return p.script(unquote(args))
		default:
			return p.script(unquote(w + " " + args))
		}
	}
	return 0
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	return strings.ReplaceAll(s, `\"`, `"`)
}

func (p *process) file(name string) int {
	b, err := os.ReadFile(p.m.local(name))
	if err != nil {
		p.fail("The argument '" + name + "' to the -File parameter does not exist.")
		return -196608
	}
	return p.script(strings.TrimPrefix(string(b), "\ufeff"))
}

// script runs a text. Those that Ingot brings files with are recognised by
// their first line and done in Go; everything else is interpreted.
func (p *process) script(text string) int {
	first := map[string]func(string) error{
		"# ingot receive": func(string) error { return p.receive() }, "# ingot send": p.send, "# ingot elevated": p.elevated,
	}
	for line := range strings.Lines(text) {
		if do := first[strings.TrimSpace(line)]; do != nil {
			if err := do(text); err != nil {
				var e exit
				if errors.As(err, &e) {
					return int(e)
				}
				return p.fail(err.Error())
			}
			return 0
		}
	}
	in := &interpreter{p: p, vars: map[string]string{}}
	err := in.block(text)
	var e exit
	switch {
	case errors.As(err, &e):
		return int(e)
	case err != nil:
		return p.fail(err.Error())
	}
	return 0
}

// An exit is the statement of that name on its way out.
type exit int

func (e exit) Error() string { return "exit " + strconv.Itoa(int(e)) }

// An interpreter knows a few statements of PowerShell.
type interpreter struct {
	p    *process
	vars map[string]string
}

var errBreak = errors.New("unbalanced braces or quotes")

// statements splits a text at line ends and semicolons outside of quotes and
// braces.
func statements(text string) (out []string, err error) {
	start, depth := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '`':
			i++
		case '\'', '"':
			i++
			for i < len(text) && text[i] != c {
				if c == '"' && text[i] == '`' {
					i++
				}
				i++
			}
			if i >= len(text) {
				return nil, errBreak
			}
		case '{', '(':
			depth++
		case '}', ')':
			depth--
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case ';', '\n':
			if depth == 0 {
				out = append(out, text[start:i])
				start = i + 1
			}
		}
	}
	if depth != 0 {
		return nil, errBreak
	}
	return append(out, text[start:]), nil
}

var (
	assign    = regexp.MustCompile(`^\$([\w:]+)\s*=\s*(.+)$`)
	ifElse    = regexp.MustCompile(`(?is)^if\s*\((.*?)\)\s*\{(.*?)\}\s*(?:else\s*\{(.*)\})?$`)
	tryCatch  = regexp.MustCompile(`(?is)^try\s*\{(.*)\}\s*catch\s*\{(.*)\}$`)
	blockCall = regexp.MustCompile(`(?s)^&\s*\{(.*)\}$`)
	console   = regexp.MustCompile(`(?s)^\[Console\]::(Out|Error)\.Write(?:Line)?\((.*)\)$`)
	remove    = regexp.MustCompile(`(?i)^remove-item\s+-literalpath\s+(.*?)\s+-`)
)

func (in *interpreter) block(text string) error {
	list, err := statements(text)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := in.statement(strings.TrimSpace(s)); err != nil {
			return err
		}
	}
	return nil
}

func (in *interpreter) statement(s string) error {
	if s == "" || s[0] == '#' {
		return nil
	}
	if in.p.ctx.Err() != nil {
		return exit(-1)
	}
	word, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(word) {
	case "exit":
		v, err := in.value(rest)
		code, _ := strconv.Atoi(v)
		return errors.Join(err, exit(code))
	case "throw":
		v, err := in.value(rest)
		return errors.Join(err, errors.New(v))
	case "write-output", "write-host", "echo":
		return in.print(in.p.stdout, rest)
	case "write-error":
		return in.print(in.p.stderr, rest)
	case "set-psdebug":
		fmt.Fprintf(in.p.stdout, "DEBUG: trace %s\r\n", rest)
		return nil
	case "set-executionpolicy":
		return nil
	case "restart-computer":
		in.p.m.restart()
		return nil
	case ".":
		return in.source(rest)
	case "cmd", "cmd.exe":
		code := in.p.line(s)
		in.vars["lastexitcode"] = strconv.Itoa(code)
		return nil
	}
	if m := remove.FindStringSubmatch(s); m != nil {
		for _, f := range strings.Split(m[1], ",") {
			name, err := in.value(strings.TrimSpace(f))
			if err != nil {
				return err
			}
			_ = os.Remove(in.p.m.local(name))
		}
		return nil
	}
	if m := blockCall.FindStringSubmatch(s); m != nil {
		return in.block(m[1])
	}
	if s[0] == '&' {
		return in.call(strings.TrimSpace(s[1:]))
	}
	if m := tryCatch.FindStringSubmatch(s); m != nil {
		err := in.block(m[1])
		var e exit
		if err == nil || errors.As(err, &e) {
			return err
		}
		in.vars["_"] = err.Error()
		return in.block(m[2])
	}
	if m := ifElse.FindStringSubmatch(s); m != nil {
		yes, err := in.condition(m[1])
		if err != nil {
			return err
		}
		if yes {
			return in.block(m[2])
		}
		return in.block(m[3])
	}
	if m := console.FindStringSubmatch(s); m != nil {
		w := in.p.stdout
		if m[1] == "Error" {
			w = in.p.stderr
		}
		return in.print(w, m[2])
	}
	if m := assign.FindStringSubmatch(s); m != nil {
		v, err := in.value(m[2])
		if err != nil {
			return err
		}
		if name, ok := strings.CutPrefix(m[1], "env:"); ok {
			in.p.env[name] = v
		} else {
			in.vars[strings.ToLower(strings.TrimPrefix(m[1], "global:"))] = v
		}
		return nil
	}
	if strings.ContainsAny(s[:1], `'"$[(`) {
		return in.print(in.p.stdout, s)
	}
	return fmt.Errorf("The term '%s' is not recognized as the name of a cmdlet, function, script file, or operable program.", word) //nolint:revive,staticcheck // PowerShell's words
}

func (in *interpreter) print(w io.Writer, expr string) error {
	v, err := in.value(expr)
	if err == nil {
		fmt.Fprintf(w, "%s\r\n", v)
	}
	return err
}

// source runs a file in this scope.
func (in *interpreter) source(expr string) error {
	name, err := in.value(expr)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(in.p.m.local(name))
	if err != nil {
		return fmt.Errorf("the term '%s' is not recognized", name)
	}
	return in.block(strings.TrimPrefix(string(b), "\ufeff"))
}

// call runs a file in a scope of its own; its exit code is LASTEXITCODE.
func (in *interpreter) call(expr string) error {
	inner := &interpreter{p: in.p, vars: map[string]string{}}
	err := inner.source(expr)
	var e exit
	if errors.As(err, &e) {
		in.vars["lastexitcode"], err = strconv.Itoa(int(e)), nil
	} else if code, ok := inner.vars["lastexitcode"]; ok {
		in.vars["lastexitcode"] = code
	}
	return err
}

func (in *interpreter) condition(c string) (bool, error) {
	c = strings.TrimSpace(c)
	rest, ok := strings.CutPrefix(c, "Test-Path ")
	if !ok {
		v, err := in.value(c)
		return v != "" && v != "0" && v != "False", err
	}
	rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), "-LiteralPath"))
	if name, ok := strings.CutPrefix(strings.ToLower(rest), "variable:"); ok {
		name = strings.TrimPrefix(name, "global:")
		_, there := in.vars[name]
		return there || name == "progresspreference", nil
	}
	name, err := in.value(rest)
	if err != nil {
		return false, err
	}
	if strings.HasPrefix(strings.ToLower(name), "hklm:") {
		in.p.m.mu.Lock()
		defer in.p.m.mu.Unlock()
		return in.p.m.registry[strings.ToLower(name)], nil
	}
	_, err = os.Stat(in.p.m.local(name))
	return err == nil, nil
}

// value evaluates literals, variables and the few expressions that are known.
func (in *interpreter) value(e string) (string, error) {
	e = strings.TrimSpace(e)
	switch {
	case e == "":
		return "", nil
	case len(e) > 1 && e[0] == '\'' && e[len(e)-1] == '\'':
		return strings.ReplaceAll(e[1:len(e)-1], "''", "'"), nil
	case len(e) > 1 && e[0] == '"' && e[len(e)-1] == '"':
		return in.interpolate(e[1 : len(e)-1]), nil
	case e == "[Environment]::TickCount":
		return strconv.FormatInt(in.p.m.Uptime().Milliseconds(), 10), nil
	case e[0] == '$':
		return in.variable(strings.Trim(e[1:], "{}")), nil
	case e[0] == '(' && e[len(e)-1] == ')':
		return in.value(e[1 : len(e)-1])
	case strings.ContainsAny(e, "(){}|"):
		return "", fmt.Errorf("the stand-in for PowerShell cannot evaluate %s", e)
	}
	return e, nil
}

func (in *interpreter) variable(name string) string {
	name = strings.ToLower(name)
	if n, ok := strings.CutPrefix(name, "env:"); ok {
		v, _ := in.p.variable(n)
		return v
	}
	return in.vars[strings.TrimSuffix(name, ".exception.message")]
}

var reference = regexp.MustCompile("`(.)|\\$\\{([\\w:]+)\\}|\\$([\\w:]+)")

func (in *interpreter) interpolate(s string) string {
	return reference.ReplaceAllStringFunc(s, func(m string) string {
		g := reference.FindStringSubmatch(m)
		switch {
		case g[1] == "n":
			return "\n"
		case g[1] != "":
			return g[1]
		}
		return in.variable(g[2] + g[3])
	})
}
