package shell

import "io"

// An lfReader turns the line ends CR LF of r into LF. Other carriage returns
// stay.
type lfReader struct {
	r    io.Reader
	held bool // a CR was read and not handed out: the next byte decides
	err  error
	buf  [32 << 10]byte
	out  []byte
	room [32<<10 + 1]byte // a held CR and a whole buf
}

func (l *lfReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(l.out) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		l.fill()
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

func (l *lfReader) fill() {
	var n int
	n, l.err = l.r.Read(l.buf[:])
	out := l.room[:0]
	for _, c := range l.buf[:n] {
		if l.held && c != '\n' {
			out = append(out, '\r')
		}
		if l.held = c == '\r'; !l.held {
			out = append(out, c)
		}
	}
	if l.err != nil && l.held {
		out, l.held = append(out, '\r'), false
	}
	l.out = out
}
