package secret

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestStringNeverPrintsItself(t *testing.T) {
	s := New("hunter2")
	type wrap struct {
		P String
		Q *String
	}
	js, err := json.Marshal(wrap{s, &s})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %v %+v %#v %q %x %d", s, s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", wrap{s, nil}, wrap{s, &s}, wrap{s, nil}), string(js),
	} {
		if strings.Contains(got, "hunter2") || strings.Contains(got, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("secret shown in %q", got)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Error("content lost")
	}
}

func TestMask(t *testing.T) {
	var s Set
	s.Add("abc")
	s.Add("abcdef")
	s.Add("line one\r\nline two")
	s.Add("  \n")
	for in, want := range map[string]string{
		"x abc y":            "x <sensitive> y",
		"abcdef":             "<sensitive>",
		"line two only":      "<sensitive> only",
		"line one\nline two": "<sensitive>",
		"plain  text":        "plain  text",
	} {
		if got := s.Mask(in); got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}
