package instancetype

import (
	"slices"
	"testing"
)

func TestFacts(t *testing.T) {
	for _, tt := range []struct {
		name, hypervisor, arch, virt string
		vcpus, memory                int
		uefi, tpm, enclave           bool
	}{
		{"t2.micro", "xen", "i386", "hvm", 1, 1024, false, false, false},
		{"t3.micro", "nitro", "x86_64", "hvm", 2, 1024, true, true, false},
		{"t4g.small", "nitro", "arm64", "hvm", 2, 2048, true, false, false},
		{"m5.large", "nitro", "x86_64", "hvm", 2, 8192, true, true, false},
		{"m5.xlarge", "nitro", "x86_64", "hvm", 4, 16384, true, true, true},
		{"c7g.medium", "nitro", "arm64", "hvm", 1, 2048, true, false, false},
		{"r6g.4xlarge", "nitro", "arm64", "hvm", 16, 131072, true, false, true},
		{"m1.small", "xen", "i386", "paravirtual", 1, 1740, false, false, false},
		{"m3.large", "xen", "x86_64", "paravirtual", 2, 7680, false, false, false},
		{"c4.large", "xen", "x86_64", "hvm", 2, 3840, false, false, false},
	} {
		k, ok := Get(tt.name)
		if !ok {
			t.Errorf("no %s", tt.name)
			continue
		}
		_, uefi := k.Boot("uefi")
		if k.Hypervisor != tt.hypervisor || !k.Arch(tt.arch) || !k.Virt(tt.virt) || k.VCPUs != tt.vcpus || k.MemoryMiB != tt.memory ||
			uefi != tt.uefi || k.TPM != tt.tpm || k.Enclave != tt.enclave {
			t.Errorf("%s: %+v", tt.name, k)
		}
	}
	if _, ok := Get("t3.enormous"); ok {
		t.Error("t3.enormous exists")
	}
}

func TestTableIsWhole(t *testing.T) {
	types := All()
	if !slices.IsSortedFunc(types, func(a, b Type) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		t.Error("not sorted, or a name twice")
	}
	for _, k := range types {
		if k.VCPUs < 1 || k.MemoryMiB < 512 || len(k.Architectures) == 0 || len(k.Virtualization) == 0 || len(k.BootModes) == 0 ||
			k.ENA == "" || k.EBSOptimized == "" || k.Network == "" || k.Interfaces < 2 || k.AddressesEach < 2 || k.ThreadsPerCore < 1 ||
			k.VCPUs%k.ThreadsPerCore != 0 || k.SpotUSD() <= 0 {
			t.Errorf("%+v", k)
		}
		if k.Arch("arm64") && !slices.Equal(k.BootModes, []string{"uefi"}) {
			t.Errorf("%s boots %v", k.Name, k.BootModes)
		}
		if k.Hypervisor == "nitro" && k.ENA != "required" {
			t.Errorf("%s: ENA %s", k.Name, k.ENA)
		}
	}
}

func TestBoot(t *testing.T) {
	for _, tt := range []struct {
		name, image, want string
		ok                bool
	}{
		{"t2.micro", "", "legacy-bios", true},
		{"t2.micro", "uefi", "uefi", false},
		{"t2.micro", "uefi-preferred", "legacy-bios", true},
		{"t3.micro", "uefi-preferred", "uefi", true},
		{"t3.micro", "", "legacy-bios", true},
		{"t4g.micro", "", "uefi", true},
		{"t4g.micro", "legacy-bios", "legacy-bios", false},
		{"t3.micro", "coreboot", "", false},
	} {
		k, _ := Get(tt.name)
		if got, ok := k.Boot(tt.image); got != tt.want || ok != tt.ok {
			t.Errorf("%s boots %q as %q, %v", tt.name, tt.image, got, ok)
		}
	}
}

func TestScale(t *testing.T) {
	big, _ := Get("m5.4xlarge")
	tiny, _ := Get("t3.nano")
	if c, m := big.Scale(2, 24000); c != 2 || m != 2944 {
		t.Errorf("m5.4xlarge on a small host: %d, %d", c, m)
	}
	if c, m := big.Scale(64, 1<<20); c != 16 || m != 65536 {
		t.Errorf("m5.4xlarge on a large host: %d, %d", c, m)
	}
	if c, m := tiny.Scale(1, 1000); c != 1 || m != 512 {
		t.Errorf("t3.nano: %d, %d", c, m)
	}
}

func TestOfferedIn(t *testing.T) {
	for _, tt := range []struct {
		name, where string
		want        bool
	}{
		{"t3.micro", "eu-north-1", true},
		{"t3.micro", "eu-north-1c", true},
		{"m1.small", "us-east-1", true},
		{"m1.small", "us-east-1b", true},
		{"m1.small", "eu-north-1", false},
		{"m8g.large", "eu-west-1", true},
		{"m8g.large", "eu-west-1c", false},
		{"m8g.large", "us-east-1c", true},
	} {
		k, _ := Get(tt.name)
		if got := k.OfferedIn(tt.where); got != tt.want {
			t.Errorf("%s in %s: %v", tt.name, tt.where, got)
		}
	}
}
