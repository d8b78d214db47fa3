package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// runs is how often a short command is run for one figure.
const runs = 21

// ingot builds the program once per test binary, as `make build` does.
func ingot(b *testing.B) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "ingot")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "../../cmd/ingot")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// median runs a command several times and returns the median of its wall time
// and its peak memory in MiB.
func median(b *testing.B, args ...string) (time.Duration, float64) {
	b.Helper()
	var times []time.Duration
	var peak int64
	for range runs {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = "../.."
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
		times = append(times, time.Since(start))
		peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	slices.Sort(times)
	return times[runs/2], float64(peak) / 1024
}

func report(b *testing.B, args ...string) {
	bin := ingot(b)
	plain, _ := median(b, "/bin/true")
	for b.Loop() {
		t, mem := median(b, append([]string{bin}, args...)...)
		b.ReportMetric(float64(t.Microseconds())/1000, "ms")
		b.ReportMetric(float64(t)/float64(plain), "x-true")
		b.ReportMetric(mem, "MiB-peak")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkVersion is `ingot version` as a whole process.
func BenchmarkVersion(b *testing.B) { report(b, "version") }

// BenchmarkValidate is `ingot validate` of the example as a whole process.
func BenchmarkValidate(b *testing.B) { report(b, "validate", "examples/web-prod") }
