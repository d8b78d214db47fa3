// Package rfb types on a VNC server: the part of the RFB protocol that a
// keyboard needs (RFC 6143). It never asks for the screen.
package rfb

import (
	"bufio"
	"context"
	"crypto/des" //nolint:gosec // the protocol's password scheme
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"slices"
	"time"

	"github.com/ingot-build/ingot/internal/secret"
)

// A Client is one connection, for one goroutine.
type Client struct {
	conn net.Conn
}

// The security types of section 7.2.
const (
	securityNone = 1
	securityVNC  = 2
)

// maxText bounds what a server may make us read.
const maxText = 64 << 10

// Dial connects to the server at addr and logs in, with password where the
// server wants one.
func Dial(ctx context.Context, addr string, password secret.String) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("vnc: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := handshake(conn, password); err != nil {
		_ = conn.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("vnc %s: %w", addr, err)
	}
	c := &Client{conn}
	// Bells and clipboard texts may come unasked; the end of the connection
	// shows at the next key.
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	return c, nil
}

func handshake(conn io.ReadWriter, password secret.String) error {
	r := bufio.NewReader(conn)
	version := make([]byte, 12)
	if _, err := io.ReadFull(r, version); err != nil {
		return err
	}
	if string(version[:4]) != "RFB " || version[11] != '\n' {
		return errors.New("the server does not speak RFB")
	}
	if string(version[4:11]) < "003.007" {
		return fmt.Errorf("the server speaks RFB %s, which is too old", version[4:11])
	}
	if _, err := conn.Write([]byte("RFB 003.008\n")); err != nil {
		return err
	}
	n, err := r.ReadByte()
	if err != nil {
		return err
	}
	if n == 0 {
		return refusal(r)
	}
	types := make([]byte, n)
	if _, err := io.ReadFull(r, types); err != nil {
		return err
	}
	switch {
	case slices.Contains(types, securityNone):
		_, err = conn.Write([]byte{securityNone})
	case slices.Contains(types, securityVNC):
		err = authenticate(conn, r, password)
	default:
		err = fmt.Errorf("no security type in %v is known here", types)
	}
	if err != nil {
		return err
	}
	var result uint32
	if err := binary.Read(r, binary.BigEndian, &result); err != nil {
		return err
	}
	if result != 0 {
		return refusal(r)
	}
	if _, err := conn.Write([]byte{1}); err != nil { // ClientInit: shared
		return err
	}
	// ServerInit: geometry and pixel format, then the name.
	if _, err := r.Discard(20); err != nil {
		return err
	}
	_, err = text(r)
	return err
}

// authenticate answers the challenge of section 7.2.2.
func authenticate(conn io.Writer, r io.Reader, password secret.String) error {
	if password.IsEmpty() {
		return errors.New("the server wants a password and there is none")
	}
	if _, err := conn.Write([]byte{securityVNC}); err != nil {
		return err
	}
	challenge := make([]byte, 16)
	if _, err := io.ReadFull(r, challenge); err != nil {
		return err
	}
	key := make([]byte, 8)
	copy(key, password.Reveal())
	for i, b := range key {
		key[i] = bits.Reverse8(b)
	}
	block, err := des.NewCipher(key) //nolint:gosec // as above
	if err != nil {
		return err
	}
	block.Encrypt(challenge[:8], challenge[:8])
	block.Encrypt(challenge[8:], challenge[8:])
	_, err = conn.Write(challenge)
	return err
}

func refusal(r io.Reader) error {
	why, err := text(r)
	if err != nil {
		return fmt.Errorf("the server refused: %w", err)
	}
	return fmt.Errorf("the server refused: %s", why)
}

func text(r io.Reader) (string, error) {
	var n uint32
	if err := binary.Read(r, binary.BigEndian, &n); err != nil {
		return "", err
	}
	if n > maxText {
		return "", fmt.Errorf("a text of %d bytes is too long", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// Key sends the change of one key, an X11 keysym (section 7.5.4).
func (c *Client) Key(ctx context.Context, sym uint32, down bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	msg := make([]byte, 8)
	msg[0] = 4
	if down {
		msg[1] = 1
	}
	binary.BigEndian.PutUint32(msg[4:], sym)
	if err := c.conn.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return fmt.Errorf("vnc: %w", err)
	}
	if _, err := c.conn.Write(msg); err != nil {
		return fmt.Errorf("vnc: %w", err)
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
