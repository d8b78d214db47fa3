package vm

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// kvmDevice is Linux's door to hardware virtualization.
const kvmDevice = "/dev/kvm"

// probeTime bounds a trial guest, which ends in a fraction of a second where
// hardware runs it.
const probeTime = 3 * time.Second

// A KVM says whether this machine runs guests with KVM, and why not.
type KVM struct {
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
	Boot   string `json:"boot"`
}

// ProbeKVM starts a small guest under KVM with the QEMU binary: that
// /dev/kvm can be opened does not mean that it runs guests. The answer is kept
// in the folder cache (which is made when missing) until the machine starts
// anew or one of the binary, the device and the user changes; cache "" keeps
// nothing.
func ProbeKVM(ctx context.Context, binary, cache string) (KVM, error) {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return KVM{Reason: fmt.Sprintf("%s cannot be opened: %v", kvmDevice, err)}, nil
	}
	_ = f.Close()
	path, err := exec.LookPath(binary)
	if err != nil {
		return KVM{}, fmt.Errorf("probe KVM: %w", err)
	}
	boot, keep := BootID(), ""
	if cache != "" && boot != "" {
		keep = filepath.Join(cache, "kvm-"+probeKey(path)+".json")
		var k KVM
		if js, err := os.ReadFile(keep); err == nil && json.Unmarshal(js, &k) == nil && k.Boot == boot {
			return k, nil
		}
	}
	k := KVM{Boot: boot}
	if k.Reason, err = trialGuest(ctx, path, "kvm", probeTime); err != nil {
		return KVM{}, err
	}
	k.Usable = k.Reason == ""
	if keep != "" {
		if js, err := json.Marshal(k); err == nil && os.MkdirAll(cache, 0o755) == nil {
			// Without the answer the next build asks again.
			_ = atomicfile.Write(keep, append(js, '\n'), 0o644)
		}
	}
	return k, nil
}

// probeKey changes with everything that may change the answer within one boot.
func probeKey(path string) string {
	h := sha256.New()
	fmt.Fprintf(h, "kvm.v2 %q %d", path, os.Geteuid())
	for _, p := range []string{path, kvmDevice} {
		if st, err := os.Stat(p); err == nil {
			fmt.Fprintf(h, " %d %d %s", st.Size(), st.ModTime().UnixNano(), st.Mode())
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// A trial is a guest that ends its QEMU with a status when it has run.
type trial struct {
	rom    []byte // firmware
	args   []string
	status int
}

// trialFor returns the trial of a guest architecture, in Go's name.
func trialFor(arch string) (trial, bool) {
	switch arch {
	case "amd64":
		// isa-debug-exit ends QEMU with (value << 1) | 1; the guest writes 0x10.
		return trial{trialROM(), []string{"-machine", "pc", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"}, 0x10<<1 | 1}, true
	case "arm64":
		return trial{trialARM(), []string{"-machine", "virt", "-cpu", "max"}, 0}, true
	}
	return trial{}, false
}

// trialARM is firmware for QEMU's "virt" machine: it counts to 50 million and
// powers off (PSCI SYSTEM_OFF, Arm DEN 0022).
func trialARM() []byte {
	var rom []byte
	for _, insn := range []uint32{
		0x52a06002, // movz w2, #0x300, lsl #16
		0x71000442, // 1: subs w2, w2, #1
		0x54ffffe1, // b.ne 1b
		0x52800100, // movz w0, #0x0008
		0x72b08000, // movk w0, #0x8400, lsl #16
		0xd4000002, // hvc #0
		0x14000000, // b .
	} {
		rom = binary.LittleEndian.AppendUint32(rom, insn)
	}
	return rom
}

// trialCode is trial/trial.asm, which says how it is made, and what it does.
//
//go:embed trial/trial.bin
var trialCode []byte

// trialROM is firmware for a PC: the trial guest, and at the reset vector, 16
// bytes before the end, a jump to it.
func trialROM() []byte {
	const size, code, reset = 64 << 10, 0xf000, 0xfff0
	rom := make([]byte, size)
	copy(rom[code:], trialCode)
	rel := uint16(0x10000 + code - (reset + 3))
	copy(rom[reset:], []byte{0xe9, byte(rel), byte(rel >> 8)})
	return rom
}

// trialGuest runs the trial guest under an accelerator. reason is "" when it
// ran.
func trialGuest(ctx context.Context, path, accel string, limit time.Duration) (reason string, err error) {
	arch, ok := binaryArch(path)
	if accel == "kvm" && (!ok || arch != runtime.GOARCH && !(arch == "386" && runtime.GOARCH == "amd64")) {
		return "its guests have another architecture than this machine", nil
	}
	if arch == "386" { // its QEMU has no 64-bit mode; the processor under it is the same
		if path, err = exec.LookPath("qemu-system-x86_64"); err != nil {
			return "the trial guest needs qemu-system-x86_64", nil
		}
		arch = "amd64"
	}
	t, ok := trialFor(arch)
	if !ok {
		return "no trial guest is known for " + arch, nil
	}
	dir, err := os.MkdirTemp("", "ingot-probe-")
	if err != nil {
		return "", fmt.Errorf("probe %s: %w", accel, err)
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "rom")
	if err := os.WriteFile(rom, t.rom, 0o600); err != nil {
		return "", fmt.Errorf("probe %s: %w", accel, err)
	}
	pctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	cmd := exec.CommandContext(pctx, path, append([]string{
		"-accel", accel, "-nodefaults", "-display", "none", "-no-reboot", "-m", "16", "-bios", rom,
	}, t.args...)...)
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case cmd.ProcessState == nil:
		return "", fmt.Errorf("probe %s: %w", accel, err)
	case cmd.ProcessState.ExitCode() == t.status:
		return "", nil
	case pctx.Err() != nil:
		return fmt.Sprintf("a trial guest did not end within %s, as if its processor were emulated", limit), nil
	}
	text := strings.Join(strings.Fields(string(out)), " ")
	if text == "" {
		text = cmd.ProcessState.String()
	}
	return "a trial guest did not run: " + text, nil
}

// binaryArch returns the Go name of the architecture of a QEMU's guests, from
// its name.
func binaryArch(path string) (string, bool) {
	name := filepath.Base(path)
	_, arch, ok := strings.Cut(name, "qemu-system-")
	if !ok {
		if name == "qemu-kvm" || name == "kvm" {
			return runtime.GOARCH, true
		}
		return "", false
	}
	arch = strings.TrimSuffix(arch, ".exe")
	switch arch {
	case "x86_64":
		return "amd64", true
	case "aarch64":
		return "arm64", true
	case "i386":
		return "386", true
	}
	return arch, true
}
