package cli

import (
	"bytes"
	"io"
)

// A replay is a stream that can be read again from its beginning. Nothing of
// it is read before that is asked for.
type replay struct {
	in   io.Reader
	text *bytes.Reader
	err  error
}

func (r *replay) load() error {
	if r.text == nil {
		var b []byte
		b, r.err = io.ReadAll(r.in)
		r.text = bytes.NewReader(b)
	}
	return r.err
}

func (r *replay) Read(p []byte) (int, error) {
	if err := r.load(); err != nil {
		return 0, err
	}
	return r.text.Read(p)
}

func (r *replay) Seek(offset int64, whence int) (int64, error) {
	if err := r.load(); err != nil {
		return 0, err
	}
	return r.text.Seek(offset, whence)
}
