package vm

import (
	"context"
	"crypto/sha256"
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
	if k.Reason, err = trialGuest(ctx, path, "kvm"); err != nil {
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

// trialStatus is what the trial guest makes QEMU exit with: isa-debug-exit
// ends QEMU with (value << 1) | 1, and the guest writes 0x10.
const trialStatus = 0x10<<1 | 1

// trialROM is firmware for a PC. It does what an ordinary guest does first and
// then for ever: it goes from real mode through page tables into 64-bit mode,
// and computes. Hardware runs the loop in a tenth of a second; a KVM that has to
// emulate the guest's kernel instruction by instruction, as one without hardware
// behind it does, not within [probeTime]. At the end it writes 0x10 to the debug
// exit port 0xf4.
func trialROM() []byte {
	rom := make([]byte, 64<<10) // at 0xf0000, and at the end of the first 4 GiB
	copy(rom, []byte{
		0xfa,             // cli
		0xb8, 0x00, 0xf0, // mov ax, 0xf000
		0x8e, 0xd8, // mov ds, ax
		0x66, 0x0f, 0x01, 0x16, 0x80, 0x00, // lgdt [0x80]
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xc0, // mov es, ax
		0xbf, 0x00, 0x10, // mov di, 0x1000
		0xb9, 0x00, 0x18, // mov cx, 0x1800
		0xf3, 0xab, // rep stosw: three empty page tables
		0x26, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, // mov word es:[0x1000], 0x2003: PML4 to PDPT
		0x26, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, // mov word es:[0x2000], 0x3003: PDPT to PD
		0x26, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, // mov word es:[0x3000], 0x0083: PD to the first 2 MiB
		0x66, 0xb8, 0x20, 0x00, 0x00, 0x00, // mov eax, 0x20
		0x0f, 0x22, 0xe0, // mov cr4, eax: PAE
		0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, 0x1000
		0x0f, 0x22, 0xd8, // mov cr3, eax
		0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080: EFER
		0x0f, 0x32, // rdmsr
		0x0d, 0x00, 0x01, // or ax, 0x100: LME
		0x0f, 0x30, // wrmsr
		0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, // mov eax, 0x80000001
		0x0f, 0x22, 0xc0, // mov cr0, eax: PE and PG
		0x66, 0xea, 0x5d, 0x00, 0x0f, 0x00, 0x08, 0x00, // jmp 8:0xf005d
		0xb9, 0x00, 0x00, 0x00, 0x10, // mov ecx, 0x10000000
		0xff, 0xc9, // dec ecx
		0x75, 0xfc, // jnz to the dec
		0xb0, 0x10, // mov al, 0x10
		0xe6, 0xf4, // out 0xf4, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to the hlt
	})
	copy(rom[0x78:], []byte{
		0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, // descriptor 8: 64-bit code
		0x0f, 0x00, 0x70, 0x00, 0x0f, 0x00, // the table's limit, and its place 0xf0070
	})
	copy(rom[len(rom)-16:], []byte{0xea, 0x00, 0x00, 0x00, 0xf0}) // reset vector: jmp 0xf000:0
	return rom
}

// trialGuest runs the trial guest under an accelerator. reason is "" when it
// ran.
func trialGuest(ctx context.Context, path, accel string) (reason string, err error) {
	arch, ok := binaryArch(path)
	if !ok || arch != runtime.GOARCH && !(arch == "386" && runtime.GOARCH == "amd64") {
		return "its guests have another architecture than this machine", nil
	}
	if runtime.GOARCH != "amd64" {
		return "no trial guest is known for " + runtime.GOARCH, nil
	}
	dir, err := os.MkdirTemp("", "ingot-probe-")
	if err != nil {
		return "", fmt.Errorf("probe %s: %w", accel, err)
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "rom")
	if err := os.WriteFile(rom, trialROM(), 0o600); err != nil {
		return "", fmt.Errorf("probe %s: %w", accel, err)
	}
	pctx, stop := context.WithTimeout(ctx, probeTime)
	defer stop()
	cmd := exec.CommandContext(pctx, path, "-accel", accel, "-machine", "pc", "-nodefaults", "-display", "none", "-no-reboot",
		"-m", "16", "-bios", rom, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case cmd.ProcessState == nil:
		return "", fmt.Errorf("probe %s: %w", accel, err)
	case cmd.ProcessState.ExitCode() == trialStatus:
		return "", nil
	case pctx.Err() != nil:
		return fmt.Sprintf("a trial guest did not end within %s, as if its processor were emulated", probeTime), nil
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
