package ui

import (
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// A screen is the part of a terminal that the live view relies on: printing
// with wrapping, CR, LF, cursor up, erase in line and display, SGR, cursor
// visibility. Anything else fails the test. Rows that scroll out are kept.
type screen struct {
	t          *testing.T
	mu         sync.Mutex
	cols, rows int
	cells      [][]rune // all rows, scrolled-out ones included
	x, y       int
	top        int // first row on the screen
	hidden     bool
	writes     int
	sgr        string
}

func newScreen(t *testing.T, cols, rows int) *screen {
	return &screen{t: t, cols: cols, rows: rows, cells: [][]rune{nil}}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	text := string(p)
	for text != "" {
		if strings.HasPrefix(text, "\x1b[") {
			i := strings.IndexFunc(text[2:], func(r rune) bool { return r >= 0x40 && r <= 0x7e })
			if i < 0 {
				s.t.Errorf("unfinished sequence %q", text)
				return len(p), nil
			}
			s.csi(text[2:2+i], text[2+i])
			text = text[3+i:]
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		switch {
		case r == '\r':
			s.x = 0
		case r == '\n':
			s.x = 0 // onlcr of the terminal driver
			s.down()
		case r < 0x20:
			s.t.Errorf("control character %U", r)
		default:
			s.put(r)
		}
	}
	return len(p), nil
}

func (s *screen) csi(arg string, final byte) {
	switch {
	case final == 'm':
		s.sgr = arg
	case final == 'K' && arg == "":
		s.cells[s.y] = s.cells[s.y][:min(s.x, len(s.cells[s.y]))]
	case final == 'J' && arg == "":
		s.cells[s.y] = s.cells[s.y][:min(s.x, len(s.cells[s.y]))]
		s.cells = s.cells[:s.y+1]
	case final == 'A':
		n := 0
		for _, c := range arg {
			n = n*10 + int(c-'0')
		}
		s.y = max(s.top, s.y-n)
	case arg == "?25" && (final == 'l' || final == 'h'):
		s.hidden = final == 'l'
	default:
		s.t.Errorf("sequence ESC[%s%c", arg, final)
	}
}

func (s *screen) down() {
	s.y++
	if s.y == len(s.cells) {
		s.cells = append(s.cells, nil)
	}
	s.top = max(s.top, s.y-s.rows+1)
}

func (s *screen) put(r rune) {
	w := columns(r)
	if s.x+w > s.cols {
		s.x = 0
		s.down()
	}
	row := s.cells[s.y]
	for len(row) <= s.x {
		row = append(row, ' ')
	}
	row[s.x] = r
	s.cells[s.y] = row
	s.x += w
	for len(s.cells[s.y]) < s.x {
		s.cells[s.y] = append(s.cells[s.y], 0)
	}
}

// resize makes the screen narrower the way terminals do that wrap again.
func (s *screen) resize(cols int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]rune
	y := s.y
	for i, row := range s.cells {
		if i == s.y {
			y = len(out)
		}
		for len(row) > cols {
			out = append(out, row[:cols:cols])
			row = row[cols:]
		}
		out = append(out, row)
	}
	s.cells, s.y, s.cols = out, y, cols
	s.top = max(s.top, s.y-s.rows+1)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, row := range s.cells {
		b.WriteString(strings.TrimRight(strings.ReplaceAll(string(row), "\x00", ""), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// waitFor waits until text is on the screen.
func (s *screen) waitFor(text string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.text(), text); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Errorf("%q did not appear:\n%s", text, s.text())
			return
		}
	}
}

func (s *screen) state() (writes int, hidden bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes, s.hidden
}
