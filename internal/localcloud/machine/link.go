package machine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// RunLink is the helper process of one machine: a wire between the guest's
// network card and QEMU's user-mode network, which leads 169.254.169.254:80 to
// the machine's metadata server. args are those that [QEMU] appended to
// QEMU.Link; the files 3 and 4 are the wire's ends. It returns when the
// machine has ended.
func RunLink(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("this is a helper of a running machine and not for use by hand")
	}
	s := Spec{PrivateIP: args[2], Subnet: args[3]}
	n, err := s.network()
	if err != nil {
		return err
	}
	file := filepath.Join(args[1], targetFile)
	t := &translator{net: n, known: map[netip.AddrPort]bool{}, target: func() netip.AddrPort {
		text, err := os.ReadFile(file)
		if err != nil {
			return netip.AddrPort{} // nobody answers
		}
		to, _ := parseTarget(strings.TrimSpace(string(text)))
		return to
	}}
	card, err := inherited(3)
	if err != nil {
		return err
	}
	defer card.Close()
	up, err := inherited(4)
	if err != nil {
		return err
	}
	defer up.Close()
	return t.run(card, up)
}

func inherited(fd uintptr) (net.Conn, error) {
	f := os.NewFile(fd, "link")
	if f == nil {
		return nil, errors.New("the file descriptors of the link are missing")
	}
	defer f.Close()
	return net.FileConn(f)
}

// run carries frames both ways until one end is closed.
func (t *translator) run(card, up net.Conn) error {
	var mu sync.Mutex // translator, and the order of frames to the card
	toCard := bufio.NewWriterSize(card, maxFrame)
	var tasks sync.WaitGroup
	errs := make([]error, 2)
	end := func(i int, err error) {
		errs[i] = err
		_ = card.Close()
		_ = up.Close()
	}
	tasks.Go(func() {
		toUp := bufio.NewWriterSize(up, maxFrame)
		end(0, frames(card, func(frame []byte, more bool) error {
			mu.Lock()
			verdict := t.fromGuest(frame)
			var err error
			if verdict == answer {
				err = errors.Join(send(toCard, frame), toCard.Flush())
			}
			mu.Unlock()
			if verdict == pass {
				err = send(toUp, frame)
			}
			if !more {
				err = errors.Join(err, toUp.Flush())
			}
			return err
		}))
	})
	tasks.Go(func() {
		end(1, frames(up, func(frame []byte, more bool) error {
			mu.Lock()
			defer mu.Unlock()
			var err error
			if t.toGuest(frame) == pass {
				err = send(toCard, frame)
			}
			if !more {
				err = errors.Join(err, toCard.Flush())
			}
			return err
		}))
	})
	tasks.Wait()
	for _, err := range errs {
		if !isEnd(err) {
			return err
		}
	}
	return nil
}

// isEnd reports whether err only says that the machine has ended.
func isEnd(err error) bool {
	for _, end := range []error{io.EOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return true
		}
	}
	return err == nil
}

// frames reads frames as QEMU's socket network writes them: each after its
// length in four bytes. more says that another one can be read without waiting.
func frames(from io.Reader, each func(frame []byte, more bool) error) error {
	in := bufio.NewReaderSize(from, maxFrame)
	var size [4]byte
	buf := make([]byte, maxFrame)
	for {
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > maxFrame {
			return fmt.Errorf("a frame of %d bytes", n)
		}
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return err
		}
		if err := each(buf[:n], in.Buffered() >= 4); err != nil {
			return err
		}
	}
}

func send(w *bufio.Writer, frame []byte) error {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(frame))) //nolint:gosec // at most maxFrame
	_, _ = w.Write(size[:])                                 // the second write tells
	_, err := w.Write(frame)
	return err
}
