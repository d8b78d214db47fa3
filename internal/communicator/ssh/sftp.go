package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// sftpInFlight is how many requests for one file are under way at a time.
const sftpInFlight = 64

// sftpError is what an SFTP server said.
type sftpError struct {
	op  string
	err error
}

func (e *sftpError) Error() string { return e.op + ": " + e.err.Error() }
func (e *sftpError) Unwrap() error { return e.err }

// sftpClient returns the link's SFTP client and starts it the first time. It
// takes one session, which stays open. Every client returned must be given
// back with doneSFTP.
func (l *link) sftpClient(ctx context.Context) (*sftp.Client, error) {
	l.mu.Lock()
	cl := l.files
	if cl != nil {
		l.fileUsers++
	}
	l.mu.Unlock()
	if cl != nil {
		return cl, nil
	}
	for again := false; ; again = true {
		s, early, err := l.session(ctx)
		if err != nil {
			return nil, err
		}
		cl, err := startSFTP(ctx, s)
		if errors.Is(err, io.EOF) && early && !again {
			l.release()
			continue
		}
		if err != nil {
			l.release()
			_ = s.Close()
			if l.broken() {
				return nil, l.lost(err)
			}
			return nil, err
		}
		go func() { // ends with the link at the latest
			_ = cl.Wait()
			_ = s.Close()
			l.release()
			l.mu.Lock()
			if l.files == cl {
				l.files = nil
			}
			l.mu.Unlock()
		}()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.fileUsers++
		if l.files != nil { // another caller was quicker
			go cl.Close() //nolint:errcheck // not used yet
			return l.files, nil
		}
		l.files = cl
		return cl, nil
	}
}

func (l *link) doneSFTP() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fileUsers--
}

func startSFTP(ctx context.Context, s *gossh.Session) (*sftp.Client, error) {
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	switch err := s.RequestSubsystem("sftp"); {
	case errors.Is(err, io.EOF):
		return nil, err
	case err != nil:
		return nil, &sftpError{"start sftp", diag.WithHint(errors.New("the guest's SSH server has no SFTP subsystem"),
			`add "Subsystem sftp internal-sftp" to the guest's sshd_config, or use a login shell that runs /bin/sh`)}
	}
	cl, err := sftp.NewClientPipe(out, in, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true),
		sftp.MaxConcurrentRequestsPerFile(sftpInFlight))
	if err != nil {
		return nil, &sftpError{"start sftp", err}
	}
	return cl, nil
}

// withSFTP calls do with a client, on another goroutine, so that it can be
// left when ctx ends: then the client is closed, which ends do.
func (c *Conn) withSFTP(ctx context.Context, op string, do func(cl *sftp.Client) error) error {
	l, cl, err := c.sftpOver(ctx)
	if err != nil {
		return err
	}
	defer l.doneSFTP()
	done := make(chan error, 1)
	go func() { done <- do(cl) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		late := time.NewTimer(endWithin)
		defer late.Stop()
		select {
		case <-done:
		case <-late.C:
			go cl.Close() //nolint:errcheck // sending may block
			<-done
		}
		return context.Cause(ctx)
	}
	var local *localError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &local):
		return local.err
	case l.broken(), errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, io.ErrUnexpectedEOF):
		return l.lost(err)
	}
	return &sftpError{op, err}
}

// sftpOver returns a client over the live connection, or over a new one when
// it turns out to be broken.
func (c *Conn) sftpOver(ctx context.Context) (*link, *sftp.Client, error) {
	for again := false; ; again = true {
		l, err := c.current(ctx)
		if err != nil {
			return nil, nil, err
		}
		cl, err := l.sftpClient(ctx)
		var lost *communicator.DisconnectError
		if errors.As(err, &lost) && !again && ctx.Err() == nil {
			l.close(nil)
			<-l.done
			continue
		}
		return l, cl, err
	}
}

// localError is an error of this side: of a reader, a writer, a local file.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// A source is a reader that ends with ctx and marks its errors.
type source struct {
	ctx context.Context
	r   io.Reader
}

func (s source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, &localError{context.Cause(s.ctx)}
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &localError{err}
	}
	return n, err
}

// A sink is a writer that ends with ctx and marks its errors.
type sink struct {
	ctx context.Context
	w   io.Writer
}

func (s sink) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, &localError{context.Cause(s.ctx)}
	}
	n, err := s.w.Write(p)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

// sftpName resolves the names a shell would: the server starts in the home.
func sftpName(name string) string {
	for _, home := range []string{"$HOME", "${HOME}", "~"} {
		if name == home {
			return "."
		}
		if rest, ok := strings.CutPrefix(name, home+"/"); ok && rest != "" {
			return strings.TrimLeft(rest, "/")
		}
	}
	return name
}

func (c *Conn) sftpPut(ctx context.Context, dst string, mode fs.FileMode, src io.Reader) error {
	return c.withSFTP(ctx, "put", func(cl *sftp.Client) error {
		return sftpWrite(cl, sftpName(dst), mode, source{ctx, src})
	})
}

func sftpWrite(cl *sftp.Client, name string, mode fs.FileMode, src io.Reader) error {
	f, err := cl.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.ReadFromWithConcurrency(src, 0); err == nil {
		err = f.Chmod(mode.Perm())
	}
	return errors.Join(err, f.Close())
}

func (c *Conn) sftpGet(ctx context.Context, src string, dst io.Writer) error {
	return c.withSFTP(ctx, "get", func(cl *sftp.Client) error {
		f, err := cl.Open(sftpName(src))
		if err != nil {
			return err
		}
		_, err = f.WriteTo(sink{ctx, dst})
		return errors.Join(err, f.Close())
	})
}

func (c *Conn) sftpRemove(ctx context.Context, names []string) error {
	return c.withSFTP(ctx, "remove", func(cl *sftp.Client) error {
		var errs []error
		for _, n := range names {
			if err := cl.Remove(sftpName(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("%s: %w", n, err))
			}
		}
		return errors.Join(errs...)
	})
}
