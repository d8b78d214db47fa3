package bootcommand

import (
	"context"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	key := func(s uint32) Action { return Action{Sym: s} }
	for in, want := range map[string][]Action{
		"":                    nil,
		"aZ<":                 {key('a'), {Sym: 'Z', Shift: true}, {Sym: '<', Shift: true}},
		"<wait>":              {{Wait: time.Second}},
		"<wait10><wait1m30s>": {{Wait: 10 * time.Second}, {Wait: 90 * time.Second}},
		"<WAIT1.5s>":          {{Wait: 1500 * time.Millisecond}},
		"<Enter><return>":     {key(0xff0d), key(0xff0d)},
		"<F1><f12><f10>":      {key(0xffbe), key(0xffc9), key(0xffc7)},
		"<leftCtrlOn>c<leftCtrlOff>": {
			{Sym: 0xffe3, Move: Hold}, key('c'), {Sym: 0xffe3, Move: Release},
		},
		"<aOn><aOff>":  {{Sym: 'a', Move: Hold}, {Sym: 'a', Move: Release}},
		"<>On><<OFF>":  {{Sym: '>', Move: Hold}, {Sym: '<', Move: Release}},
		"a\nb\r\n":     {key('a'), key('b')},
		"é€":           {key(0xe9), key(0x010020ac)},
		"<spacebar> ":  {key(' '), key(' ')},
		"<pageUpOff>":  {{Sym: 0xff55, Move: Release}},
		"<leftShift>":  {key(leftShift)},
		"<f0>":         {{Sym: '<', Shift: true}, key('f'), key('0'), {Sym: '>', Shift: true}},
		"<waitx>":      {{Sym: '<', Shift: true}, key('w'), key('a'), key('i'), key('t'), key('x'), {Sym: '>', Shift: true}},
		`"\`:           {{Sym: '"', Shift: true}, key('\\')},
		"<leftsuper>":  {key(0xffeb)},
		"<rightAltOn>": {{Sym: 0xffea, Move: Hold}},
	} {
		got, err := Parse(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"<wait-5s>", "<wait-1>", "\xff", "<wait9223372036854775807>"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", in, got)
		}
	}
}

type keys []string

func (k *keys) Key(_ context.Context, sym uint32, down bool) error {
	s := "-"
	if down {
		s = "+"
	}
	*k = append(*k, s+string(rune(sym)))
	return nil
}

func TestType(t *testing.T) {
	acts, err := Parse("aB<xOn><wait1ms><xOff>")
	if err != nil {
		t.Fatal(err)
	}
	var got keys
	if err := Type(t.Context(), &got, acts, 0); err != nil {
		t.Fatal(err)
	}
	shift := string(rune(leftShift))
	want := keys{"+a", "-a", "+" + shift, "+B", "-B", "-" + shift, "+x", "-x"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := Type(ctx, &got, []Action{{Wait: time.Hour}}, 0); err == nil {
		t.Error("a wait must end with its context")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"<wait10s>a<enter>", "<leftShiftOn>", "<<on>", "<é", "<", "<\xffon>", "<wait-1>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		acts, err := Parse(s)
		if err != nil {
			return
		}
		if !utf8.ValidString(s) {
			t.Errorf("accepted %q", s)
		}
		for _, a := range acts {
			if a.Wait < 0 || a.Sym != 0 && a.Wait != 0 {
				t.Errorf("%+v from %q", a, s)
			}
		}
	})
}
