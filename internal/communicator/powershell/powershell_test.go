package powershell

import (
	"testing"
	"unicode/utf8"
)

func TestQuoting(t *testing.T) {
	for in, want := range map[string]string{
		"": "''", "a b": "'a b'", "it's": "'it''s'", "\u2019": "'\u2019\u2019'", "$x`\"": "'$x`\"'",
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Escape("a`b\"c$d'e"); got != "a``b`\"c`$d'e" {
		t.Errorf("Escape: %q", got)
	}
}

func TestEncode(t *testing.T) {
	// As [Convert]::ToBase64String([Text.Encoding]::Unicode.GetBytes('dir')) gives it.
	if got := Encode("dir"); got != "ZABpAHIA" {
		t.Errorf("got %s", got)
	}
	for _, bad := range []string{"%", "AAA=" + "A", "QQ=="} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%q was decoded", bad)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("Write-Output 'ä€😀'")
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip()
		}
		if got, err := Decode(Encode(s)); err != nil || got != s {
			t.Errorf("%q came back as %q, %v", s, got, err)
		}
	})
}
