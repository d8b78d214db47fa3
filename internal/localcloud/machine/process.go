package machine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/vm"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// process is a machine of [QEMU].
type process struct {
	spec    Spec
	id      identity
	found   bool  // started by another process
	logFrom int64 // where this start's output begins in the log

	watch sync.Once
	done  chan struct{}
	mu    sync.Mutex // one operation at a time
}

// Identity implements [Process].
func (p *process) Identity() json.RawMessage {
	js, _ := json.Marshal(p.id) // plain values
	return js
}

// with connects to the control socket for one operation.
func (p *process) with(ctx context.Context, do func(*qmp.Client) error) error {
	if !p.id.QEMU.Running() {
		return ErrEnded
	}
	dir, err := os.Open(p.spec.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Socket names are limited to about 100 bytes; this one is short.
	c, err := qmp.Dial(ctx, fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), qmpSocket), nil)
	if err == nil {
		defer c.Close() //nolint:errcheck // nothing is left to say
		err = do(c)
	}
	if err != nil && !p.id.QEMU.Running() {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return err
}

func (p *process) do(ctx context.Context, command string, args, out any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.with(ctx, func(c *qmp.Client) error { return c.Do(ctx, command, args, out) })
}

// PowerButton implements [Process].
func (p *process) PowerButton(ctx context.Context) error {
	return p.do(ctx, "system_powerdown", nil, nil)
}

// Reset implements [Process].
func (p *process) Reset(ctx context.Context) error { return p.do(ctx, "system_reset", nil, nil) }

// Kill implements [Process].
func (p *process) Kill(ctx context.Context) error {
	if p.id.QEMU.Running() {
		if err := atomicfile.Write(filepath.Join(p.spec.Dir, killedFile), nil, 0o600); err != nil {
			return err
		}
	}
	dir, err := os.Open(p.spec.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := vm.End(ctx, p.id.QEMU, p.id.Token, fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), qmpSocket)); err != nil {
		return fmt.Errorf("end machine %s: %w", p.spec.ID, err)
	}
	var errs []error
	for _, name := range []string{qmpSocket, pidFile, tpmSocket, screenFile, targetFile} {
		if err := os.Remove(filepath.Join(p.spec.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Done implements [Process].
func (p *process) Done() <-chan struct{} {
	p.watch.Do(func() {
		if !p.found {
			return // launch waits for its child
		}
		p.done = make(chan struct{})
		go func() {
			for p.id.QEMU.Running() {
				time.Sleep(100 * time.Millisecond)
			}
			close(p.done)
		}()
	})
	return p.done
}

// GuestHalted implements [Process]. QEMU removes its pid file when it ends in
// order, which nobody but the guest and Kill makes it do.
func (p *process) GuestHalted() bool {
	if p.id.QEMU.Running() {
		return false
	}
	for _, name := range []string{pidFile, killedFile} {
		if _, err := os.Stat(filepath.Join(p.spec.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// SetMetadata implements [Process].
func (p *process) SetMetadata(_ context.Context, addr string) error {
	if _, err := parseTarget(addr); err != nil {
		return err
	}
	if !p.id.QEMU.Running() {
		return ErrEnded
	}
	return atomicfile.Write(filepath.Join(p.spec.Dir, targetFile), []byte(addr+"\n"), 0o600)
}

// HostPort implements [Process].
func (p *process) HostPort(port int) int { return p.id.Ports.host(port) }

func hostAddr(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

// Screenshot implements [Process].
func (p *process) Screenshot(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	file := filepath.Join(p.spec.Dir, screenFile)
	defer os.Remove(file) //nolint:errcheck // replaced by the next one
	err := p.with(ctx, func(c *qmp.Client) error {
		return c.Do(ctx, "screendump", map[string]any{"filename": file}, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("screenshot of %s: %w", p.spec.ID, err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	img, err := decodePPM(data)
	if err != nil {
		return nil, fmt.Errorf("screenshot of %s: %w", p.spec.ID, err)
	}
	var out bytes.Buffer
	err = jpeg.Encode(&out, img, &jpeg.Options{Quality: 85})
	return out.Bytes(), err
}

// maxScreen bounds the pixels of a screen.
const maxScreen = 64 << 20

// decodePPM reads the one form of ppm(5) that QEMU writes: binary, 8 bits.
func decodePPM(data []byte) (image.Image, error) {
	in := bufio.NewReader(bytes.NewReader(data))
	var w, h, most int
	if _, err := fmt.Fscanf(in, "P6\n%d %d\n%d\n", &w, &h, &most); err != nil {
		return nil, fmt.Errorf("not a PPM image: %w", err)
	}
	if w <= 0 || h <= 0 || w > maxScreen/h || most != 255 {
		return nil, fmt.Errorf("a PPM image of %d x %d, maximum %d", w, h, most)
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	row := make([]byte, 3*w)
	for y := range h {
		if _, err := io.ReadFull(in, row); err != nil {
			return nil, fmt.Errorf("a PPM image that is cut short: %w", err)
		}
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{row[3*x], row[3*x+1], row[3*x+2], 255})
		}
	}
	return img, nil
}
