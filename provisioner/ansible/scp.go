package ansible

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
)

// An scp is one end of the protocol of the program of that name, as far as
// single files and folders to the guest, and files from it.
type scp struct {
	toGuest bool
	folder  bool // -d or a trailing slash: the target is a folder
	path    string
}

// parseSCP reads the command that a client's scp runs on the other side.
func parseSCP(line string) (s scp, ok bool) {
	words, err := split(line)
	if err != nil || len(words) < 3 || words[0] != "scp" && !strings.HasSuffix(words[0], "/scp") {
		return s, false
	}
	for i, w := range words[1:] {
		if w == "--" || !strings.HasPrefix(w, "-") {
			rest := words[1+i:]
			if w == "--" {
				rest = rest[1:]
			}
			if len(rest) != 1 {
				return s, false
			}
			s.path = rest[0]
			break
		}
		for _, f := range w[1:] {
			switch f {
			case 't':
				s.toGuest, ok = true, true
			case 'f':
				ok = true
			case 'd':
				s.folder = true
			case 'p', 'q', 'v', 'r', 'T':
			default:
				return s, false // the guest's own scp may know it
			}
		}
	}
	if strings.HasSuffix(s.path, "/") {
		s.folder = true
	}
	return s, ok && s.path != ""
}

var errQuote = errors.New("a quote is not closed")

// split splits a line into words as a POSIX shell does, without expansions; a
// line that asks for some is not understood.
func split(line string) (words []string, err error) {
	var b strings.Builder
	word := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			if word {
				words = append(words, b.String())
				b.Reset()
				word = false
			}
			continue
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errQuote
			}
			b.WriteString(line[i+1 : i+1+end])
			i += end + 1
		case '"':
			closed := false
			for i++; i < len(line); i++ {
				if line[i] == '"' {
					closed = true
					break
				}
				if line[i] == '\\' && i+1 < len(line) {
					i++
				} else if line[i] == '$' || line[i] == '`' {
					return nil, errors.New("the line has expansions")
				}
				b.WriteByte(line[i])
			}
			if !closed {
				return nil, errQuote
			}
		case '\\':
			if i++; i < len(line) {
				b.WriteByte(line[i])
			}
		case '$', '`', ';', '&', '|', '<', '>', '(', ')', '\n', '*', '?', '[':
			return nil, errors.New("the line has expansions")
		default:
			b.WriteByte(c)
		}
		word = true
	}
	if word {
		words = append(words, b.String())
	}
	return words, nil
}

func (s scp) serve(ctx context.Context, g communicator.Guest, ch ssh.Channel) error {
	r := bufio.NewReader(ch)
	var err error
	if s.toGuest {
		err = s.sink(ctx, g, r, ch)
	} else {
		err = s.source(ctx, g, r, ch)
	}
	var lost *communicator.DisconnectError
	if err == nil || errors.As(err, &lost) || ctx.Err() != nil {
		return err
	}
	_, _ = fmt.Fprintf(ch, "\x02scp: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	return &communicator.ExitError{Status: 1}
}

const ack = "\x00"

// sink takes files from the client: "C0644 size name", the bytes, a zero byte.
func (s scp) sink(ctx context.Context, g communicator.Guest, r *bufio.Reader, w io.Writer) error {
	if _, err := io.WriteString(w, ack); err != nil {
		return err
	}
	dir := ""
	folders := []string{}
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the client broke off: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return errors.New("the client sent an empty line")
		}
		switch line[0] {
		case 'T': // times, which the guest does not keep
		case 'E':
			if len(folders) == 0 {
				return errors.New("the client left a folder it was not in")
			}
			dir, folders = folders[len(folders)-1], folders[:len(folders)-1]
		case 'C', 'D':
			mode, size, name, err := parseEntry(line)
			if err != nil {
				return err
			}
			target := s.target(dir, name)
			if line[0] == 'D' {
				folders = append(folders, dir)
				dir = target
				break
			}
			if err := s.take(ctx, g, r, w, target, mode, size); err != nil {
				return err
			}
		case 1, 2:
			return fmt.Errorf("the client gave up: %s", line[1:])
		default:
			return fmt.Errorf("the client sent %.20q", line)
		}
		if _, err := io.WriteString(w, ack); err != nil {
			return err
		}
	}
}

func (s scp) target(dir, name string) string {
	switch {
	case dir != "":
		return path.Join(dir, name)
	case s.folder:
		return path.Join(s.path, name)
	}
	return s.path
}

func (s scp) take(ctx context.Context, g communicator.Guest, r *bufio.Reader, w io.Writer, target string, mode fs.FileMode, size int64) error {
	if _, err := io.WriteString(w, ack); err != nil {
		return err
	}
	body := &io.LimitedReader{R: r, N: size}
	if err := g.Put(ctx, target, mode, body, size); err != nil {
		return err
	}
	if body.N > 0 {
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
	}
	b, err := r.ReadByte()
	if err != nil {
		return fmt.Errorf("the client broke off: %w", err)
	}
	if b != 0 {
		return errors.New("the client could not read its file to the end")
	}
	return nil
}

// parseEntry reads "C0644 12 name" or "D0755 0 name".
func parseEntry(line string) (mode fs.FileMode, size int64, name string, err error) {
	f := strings.SplitN(line[1:], " ", 3)
	if len(f) != 3 {
		return 0, 0, "", fmt.Errorf("the client sent %.40q", line)
	}
	bits, err := strconv.ParseUint(f[0], 8, 12)
	if err != nil {
		return 0, 0, "", fmt.Errorf("the client sent the mode %.20q", f[0])
	}
	if size, err = strconv.ParseInt(f[1], 10, 64); err != nil || size < 0 {
		return 0, 0, "", fmt.Errorf("the client sent the size %.20q", f[1])
	}
	name = f[2]
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return 0, 0, "", fmt.Errorf("the client sent the name %.40q", name)
	}
	return fs.FileMode(bits) & fs.ModePerm, size, name, nil
}

// source gives a file to the client. Its size is told first, so it is fetched
// whole before.
func (s scp) source(ctx context.Context, g communicator.Guest, r *bufio.Reader, w io.Writer) error {
	if err := answer(r); err != nil {
		return err
	}
	f, err := os.CreateTemp("", "ingot-ansible-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := g.Get(ctx, s.path, f); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	name := s.path[strings.LastIndexAny(s.path, `/\`)+1:]
	if _, err := fmt.Fprintf(w, "C0644 %d %s\n", size, name); err != nil {
		return err
	}
	if err := answer(r); err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
		return err
	}
	if _, err := io.WriteString(w, ack); err != nil {
		return err
	}
	return answer(r)
}

// answer reads the client's yes or no.
func answer(r *bufio.Reader) error {
	b, err := r.ReadByte()
	if err != nil {
		return fmt.Errorf("the client broke off: %w", err)
	}
	if b == 0 {
		return nil
	}
	text, _ := r.ReadString('\n')
	return fmt.Errorf("the client gave up: %s", strings.TrimSpace(text))
}
