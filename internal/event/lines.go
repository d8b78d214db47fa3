package event

import (
	"bytes"
	"io"
	"sync"
)

// maxLine bounds a line without an end, in bytes, so that a guest that never
// writes a newline cannot fill the memory.
const maxLine = 64 << 10

// Lines returns a writer that emits each complete line as [Output]. A carriage
// return ends what a progress bar drew so far, which is dropped in favour of
// what follows. Close emits an unfinished last line.
func Lines(out Sink, stderr bool) io.WriteCloser {
	return &lineWriter{out: out, stderr: stderr}
}

type lineWriter struct {
	out    Sink
	stderr bool
	mu     sync.Mutex
	buf    []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.buf = append(w.buf, p...)
			if len(w.buf) >= maxLine {
				w.flush()
			}
			break
		}
		w.buf = append(w.buf, p[:i]...)
		w.flush()
		p = p[i+1:]
	}
	return n, nil
}

func (w *lineWriter) flush() {
	line := bytes.TrimRight(w.buf, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	w.out.Emit(Output{Line: string(line), Stderr: w.stderr})
	w.buf = w.buf[:0]
}

func (w *lineWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) > 0 {
		w.flush()
	}
	return nil
}
