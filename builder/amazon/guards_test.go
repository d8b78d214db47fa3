package amazon

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func wantText(t *testing.T, what string, err error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Errorf("%s: refused: %v", what, err)
	case text != "" && (err == nil || !strings.Contains(err.Error(), text)):
		t.Errorf("%s: %v, want an error with %q", what, err, text)
	}
}

func TestGuardType(t *testing.T) {
	t3 := hardware{Type: "t3.small", Archs: []string{"x86_64"}, Virts: []string{"hvm"}, BootModes: []string{"legacy-bios", "uefi"}, ENARequired: true, TPM: true, EBSRootPossible: true}
	t2 := hardware{Type: "t2.small", Archs: []string{"i386", "x86_64"}, Virts: []string{"hvm"}, BootModes: []string{"legacy-bios"}, EBSRootPossible: true}
	t4g := hardware{Type: "t4g.small", Archs: []string{"arm64"}, Virts: []string{"hvm"}, BootModes: []string{"uefi"}, ENARequired: true, TPM: true, EBSRootPossible: true}
	x86 := source{ID: "ami-1", Arch: "x86_64", Virtualization: "hvm", ENA: true, ENAStated: true}
	with := func(s source, change func(*source)) source { change(&s); return s }
	for what, c := range map[string]struct {
		s    source
		h    hardware
		text string
	}{
		"same":                             {x86, t3, ""},
		"arm64 image on x86":               {with(x86, func(s *source) { s.Arch = "arm64" }), t3, "architecture is arm64"},
		"x86 image on arm64":               {x86, t4g, "architecture is x86_64"},
		"paravirtual":                      {with(x86, func(s *source) { s.Virtualization = "paravirtual" }), t3, "virtualization type is paravirtual"},
		"uefi on bios":                     {with(x86, func(s *source) { s.BootMode = "uefi" }), t2, "boot mode is uefi"},
		"uefi-preferred on bios":           {with(x86, func(s *source) { s.BootMode = "uefi-preferred" }), t2, ""},
		"uefi":                             {with(x86, func(s *source) { s.BootMode = "uefi" }), t3, ""},
		"no ENA driver":                    {with(x86, func(s *source) { s.ENA = false }), t3, "needs ENA"},
		"no ENA driver, none needed":       {with(x86, func(s *source) { s.ENA = false }), t2, ""},
		"TPM":                              {with(x86, func(s *source) { s.TPM = "v2.0" }), t2, "TPM"},
		"TPM where there is one":           {with(x86, func(s *source) { s.TPM = "v2.0" }), t3, ""},
		"a type of which nothing is known": {x86, hardware{Type: "x9.huge", EBSRootPossible: true}, ""},
	} {
		refusal, doubt := guardType(c.s, c.h)
		wantText(t, what, refusal, c.text)
		wantText(t, what+" (doubt)", doubt, "")
	}
	// An image that does not say what it has is not refused out of hand.
	vague := with(x86, func(s *source) { s.ENA, s.ENAStated, s.BootMode = false, false, "uefi" })
	for h, text := range map[*hardware]string{&t3: "needs ENA", &t2: "boot mode is uefi"} {
		refusal, doubt := guardType(vague, *h)
		wantText(t, "vague image on "+h.Type, refusal, "")
		wantText(t, "vague image on "+h.Type+" (doubt)", doubt, text)
	}
}

func TestBootable(t *testing.T) {
	ok := types.Image{ImageId: aws.String("ami-1"), State: types.ImageStateAvailable, RootDeviceType: types.DeviceTypeEbs, ImageType: types.ImageTypeValuesMachine}
	with := func(change func(*types.Image)) types.Image { i := ok; change(&i); return i }
	for what, c := range map[string]struct {
		i    types.Image
		text string
	}{
		"image":          {ok, ""},
		"says little":    {types.Image{ImageId: aws.String("ami-1")}, ""},
		"pending":        {with(func(i *types.Image) { i.State = types.ImageStatePending }), "pending"},
		"instance store": {with(func(i *types.Image) { i.RootDeviceType = types.DeviceTypeInstanceStore }), "instance-store"},
		"kernel":         {with(func(i *types.Image) { i.ImageType = types.ImageTypeValuesKernel }), "does not boot"},
	} {
		wantText(t, what, bootable(c.i), c.text)
	}
}

func TestGuardImage(t *testing.T) {
	x86 := source{ID: "ami-1", Arch: "x86_64", Virtualization: "hvm"}
	arm := source{ID: "ami-2", Arch: "arm64", Virtualization: "hvm", BootMode: "uefi"}
	old := source{ID: "ami-3", Arch: "x86_64", Virtualization: "paravirtual"}
	for what, c := range map[string]struct {
		typ, body string
		s         source
		text      string
	}{
		"ebs":                        {typeEBS, minimal, x86, ""},
		"another virtualization":     {typeEBS, minimal + `ami_virtualization_type = "paravirtual"`, x86, "source image ami-1 is hvm"},
		"ena on paravirtual":         {typeEBS, minimal + `ena_support = true`, old, "virtualization type hvm"},
		"surrogate":                  {typeSurrogate, minimalSurrogate, x86, ""},
		"surrogate on arm64":         {typeSurrogate, minimalSurrogate, arm, ""},
		"surrogate of another kind":  {typeSurrogate, minimalSurrogate + `ami_architecture = "arm64"`, x86, "ami_architecture"},
		"surrogate, 32 bits":         {typeSurrogate, minimalSurrogate + `ami_architecture = "i386"`, x86, ""},
		"surrogate, BIOS on arm64":   {typeSurrogate, minimalSurrogate + `boot_mode = "legacy-bios"`, arm, "uefi only"},
		"surrogate, TPM with BIOS":   {typeSurrogate, minimalSurrogate + `tpm_support = "v2.0"`, x86, "tpm_support"},
		"surrogate, TPM with UEFI":   {typeSurrogate, minimalSurrogate + "tpm_support = \"v2.0\"\nboot_mode = \"uefi\"", x86, ""},
		"volume, ena on paravirtual": {typeVolume, minimalVolume + `ena_support = true`, old, "virtualization type hvm"},
	} {
		wantText(t, what, must(t, c.typ, c.body).guardImage(c.s), c.text)
	}
}

func TestChooseSource(t *testing.T) {
	image := func(id, created string) types.Image {
		return types.Image{ImageId: &id, Name: aws.String("n-" + id), CreationDate: &created}
	}
	a, b := image("ami-a", "2025-01-01T00:00:00.000Z"), image("ami-b", "2026-01-01T00:00:00.000Z")
	newest := &AMIFilter{Owners: []string{"self"}, MostRecent: true}
	if i, err := (&RunOptions{SourceAMIFilter: newest}).choose([]types.Image{b, a}); err != nil || *i.ImageId != "ami-b" {
		t.Errorf("%v, %v", i.ImageId, err)
	}
	_, err := (&RunOptions{SourceAMIFilter: &AMIFilter{}}).choose([]types.Image{a, b})
	wantText(t, "two", err, "2 images fit")
	_, err = (&RunOptions{SourceAMIFilter: newest}).choose(nil)
	wantText(t, "none", err, "no image fits")
	_, err = (&RunOptions{SourceAMI: "ami-c"}).choose(nil)
	wantText(t, "no such", err, "ami-c")
}

func TestLookup(t *testing.T) {
	in := (&RunOptions{SourceAMIFilter: &AMIFilter{
		Filters: map[string]string{"name": "debian-*,ubuntu-*", "architecture": "x86_64"}, Owners: []string{"1"}, IncludeDeprecated: true,
	}}).lookup()
	if len(in.Filters) != 2 || *in.Filters[1].Name != "name" || len(in.Filters[1].Values) != 2 || in.Owners[0] != "1" || !*in.IncludeDeprecated {
		t.Errorf("%+v", in)
	}
}

func TestDeadlineArmsTheDeadMan(t *testing.T) {
	for _, tc := range []struct {
		in           RunOptions
		limit        time.Duration
		communicator string
		want         time.Duration
	}{
		{RunOptions{}, 0, "ssh", 0},
		{RunOptions{}, time.Hour, "", time.Hour + deadManGrace},
		{RunOptions{}, time.Hour, "winrm", 0},
		{RunOptions{DeadMan: 2 * time.Hour}, time.Hour, "ssh", 2 * time.Hour},
		{RunOptions{DisableStop: true}, time.Hour, "ssh", 0},
	} {
		c := tc.in
		if c.endAfter(tc.limit, tc.communicator); c.DeadMan != tc.want {
			t.Errorf("%+v: %s, want %s", tc, c.DeadMan, tc.want)
		}
	}
}
