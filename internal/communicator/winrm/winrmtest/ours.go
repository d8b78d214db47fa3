//lint:file-ignore ST1005 the errors are what PowerShell says

package winrmtest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// literal reads a top-level assignment of a script of ours.
func literal(text, name string) string {
	for s := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(s), "$"+name+"="); ok {
			if len(v) > 1 && v[0] == '\'' {
				return strings.ReplaceAll(v[1:len(v)-1], "''", "'")
			}
			return v
		}
	}
	return ""
}

// receive is the script that writes what it is sent.
func (p *process) receive() error {
	var f *os.File
	done := false
	sc := bufio.NewScanner(p.stdin)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		w := strings.Split(strings.TrimSuffix(sc.Text(), "\r"), " ")
		var arg []byte
		if len(w) > 1 && w[0] != "S" {
			var err error
			if arg, err = base64.StdEncoding.DecodeString(w[1]); err != nil {
				return errors.New("the input is not a valid Base-64 string")
			}
		}
		if f == nil && strings.Contains("SRG", w[0]) {
			return errors.New("You cannot call a method on a null-valued expression.") //nolint:revive,staticcheck // PowerShell's words
		}
		var err error
		switch w[0] {
		case "D":
			err = os.MkdirAll(p.m.local(p.expand(string(arg))), 0o755)
		case "F":
			if f != nil {
				_ = f.Close()
			}
			f, err = p.openFile(p.expand(string(arg)), w[2])
		case "S":
			var n int64
			if n, err = strconv.ParseInt(w[1], 10, 64); err == nil {
				_, err = f.Seek(n, io.SeekStart)
			}
		case "R":
			_, err = f.Write(arg)
		case "G":
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(arg)); err == nil {
				_, err = io.Copy(f, z)
			}
		case ".":
			done = true
		}
		if err != nil {
			return err
		}
	}
	if f != nil {
		_ = f.Close()
	}
	if !done {
		return errors.New("the transfer was cut off")
	}
	return sc.Err()
}

func (p *process) openFile(name, length string) (*os.File, error) {
	path := p.m.local(name)
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil, fmt.Errorf("Access to the path '%s' is denied.", name) //nolint:revive,staticcheck // .NET's words
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(length, 10, 64)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return os.Create(path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return f, f.Truncate(n)
}

// send is the script that writes a file or a folder to its output.
func (p *process) send(text string) error {
	name := p.expand(literal(text, "p"))
	path := p.m.local(name)
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("Could not find file '%s'.", name) //nolint:revive,staticcheck // .NET's words
	}
	if literal(text, "tree") != "$true" {
		if fi.IsDir() {
			return fmt.Errorf("Access to the path '%s' is denied.", name) //nolint:revive,staticcheck // .NET's words
		}
		if err := p.sendFile(path, filepath.Base(path)); err != nil {
			return err
		}
	} else if err := filepath.WalkDir(path, func(f string, d fs.DirEntry, err error) error {
		if err != nil || f == path {
			return err
		}
		rel := strings.ReplaceAll(strings.TrimPrefix(f, path+"/"), "/", `\`)
		if d.IsDir() {
			fmt.Fprintf(p.stdout, "D %s\r\n", base64.StdEncoding.EncodeToString([]byte(rel)))
			return nil
		}
		return p.sendFile(f, rel)
	}); err != nil {
		return err
	}
	fmt.Fprint(p.stdout, ".\r\n")
	return nil
}

func (p *process) sendFile(path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(p.stdout, "F %s -1\r\n", base64.StdEncoding.EncodeToString([]byte(name)))
	buf := make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			kind, chunk := "R", buf[:n]
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write(chunk)
			_ = w.Close()
			if z.Len() < n {
				kind, chunk = "G", z.Bytes()
			}
			fmt.Fprintf(p.stdout, "%s %s\r\n", kind, base64.StdEncoding.EncodeToString(chunk))
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
	}
}

// elevated is the script that runs a command as a scheduled task.
func (p *process) elevated(text string) error {
	user, password := literal(text, "user"), literal(text, "password")
	service := strings.EqualFold(user, "SYSTEM")
	if !service && (!strings.EqualFold(user, User) || password != Password) {
		return errors.New("The user name or password is incorrect. (Exception from HRESULT: 0x8007052E)") //nolint:revive,staticcheck // Windows' words
	}
	p.m.mu.Lock()
	p.m.users = append(p.m.users, user)
	p.m.mu.Unlock()
	q := *p
	q.env, q.stderr = map[string]string{}, p.stdout // a task has an environment of its own, and one log
	return exit(q.line(literal(text, "command")))
}
