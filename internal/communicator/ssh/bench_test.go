package ssh

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
)

// BenchmarkScripts20At50ms is 20 one-line scripts over a link with a round
// trip of 50 ms.
func BenchmarkScripts20At50ms(b *testing.B) {
	s := newSSHD(b)
	p := newRelay(b, s.addr(), 25*time.Millisecond)
	c := dial(b, p.target(s), nil)
	dir := shortTemp(b)
	for b.Loop() {
		for i := range 20 {
			name := fmt.Sprintf("%s/script_%d.sh", dir, i)
			err := c.RunScript(b.Context(), communicator.Script{
				Path: name, Mode: 0o755, Body: []byte("#!/bin/sh\ntrue\n"), Line: "chmod +x " + name + "; " + name,
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkTree200At50ms is a folder of 200 files of 4 KiB over such a link.
func BenchmarkTree200At50ms(b *testing.B) {
	s := newSSHD(b)
	p := newRelay(b, s.addr(), 25*time.Millisecond)
	c := dial(b, p.target(s), nil)
	src, dst := shortTemp(b), shortTemp(b)
	for i := range 200 {
		body := make([]byte, 4<<10)
		_, _ = rand.Read(body)
		writeFile(b, fmt.Sprintf("%s/%d/%d", src, i%10, i), string(body), 0o644)
	}
	for b.Loop() {
		if err := c.PutTree(b.Context(), dst, os.DirFS(src), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut1GiB writes a file of 1 GiB, INGOT_BENCH_MIB to change it, and
// compares with OpenSSH's client doing the same in turn.
func BenchmarkPut1GiB(b *testing.B) {
	size := int64(1 << 30)
	if v, err := strconv.ParseInt(os.Getenv("INGOT_BENCH_MIB"), 10, 64); err == nil {
		size = v << 20
	}
	s := newSSHD(b)
	c := dial(b, s.target(), nil)
	dir := shortTemp(b)
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	f, err := os.Create(src)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		b.Fatal(err)
	}
	writeFile(b, filepath.Join(dir, "key"), s.key.Reveal(), 0o600)
	b.SetBytes(size)
	var ours, theirs time.Duration
	for b.Loop() {
		b.StopTimer()
		theirs += timed(b, func() error {
			_, _ = f.Seek(0, io.SeekStart)
			cmd := exec.CommandContext(b.Context(), "ssh", "-F", "none", "-i", dir+"/key", "-p", strconv.Itoa(s.port),
				"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@127.0.0.1", "cat > "+dst)
			cmd.Stdin = f
			return cmd.Run()
		})
		b.StartTimer()
		ours += timed(b, func() error {
			_, _ = f.Seek(0, io.SeekStart)
			return c.Put(b.Context(), dst, 0o644, f, size)
		})
	}
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "speed-vs-openssh")
}

func timed(b *testing.B, do func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
