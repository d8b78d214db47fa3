package diag

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestListIsAnErrorOnlyWithErrors(t *testing.T) {
	var l List
	l.Warnf(nil, "Odd", "It is odd.")
	if l.HasErrors() || l.Err() != nil {
		t.Error("a warning is no error")
	}
	l.Errorf(&Range{Filename: "f", Start: Pos{2, 3, 9}}, "Wrong", "It is %s.", "wrong")
	var le *ListError
	if err := l.Err(); !errors.As(err, &le) || err.Error() != "f:2,3: Wrong: It is wrong." {
		t.Errorf("%v", l.Err())
	}
}

func TestFlattenAndHint(t *testing.T) {
	one, two := Fieldf("a", "is missing"), errors.New("two")
	err := errors.Join(one, nil, errors.Join(two))
	if got := Flatten(err); len(got) != 2 || got[0] != one || got[1] != two {
		t.Errorf("%v", got)
	}
	if Flatten(nil) != nil || WithHint(nil, "x") != nil || Hint(two) != "" {
		t.Error("nothing became something")
	}
	h := fmt.Errorf("outer: %w", WithHint(one, "set %s", "a"))
	var f *FieldError
	if Hint(h) != "set a" || !errors.As(h, &f) || h.Error() != "outer: a: is missing" {
		t.Errorf("%v, %q", h, Hint(h))
	}
}

func TestFormatMarksThePlace(t *testing.T) {
	src := map[string][]byte{"t.hcl": []byte("one {\n\tsize = 12\n}\n")}
	l := List{
		{Severity: Error, Summary: "Too small", Detail: strings.Repeat("word ", 20) + "\n  literal line", Subject: &Range{"t.hcl", Pos{2, 9, 14}, Pos{2, 11, 16}}},
		{Severity: Warning, Summary: "No source", Subject: &Range{Filename: "gone.hcl", Start: Pos{7, 1, 0}, End: Pos{7, 2, 1}}},
		{Severity: Error, Summary: "Beyond the end", Subject: &Range{"t.hcl", Pos{99, 1, 0}, Pos{98, 1, 0}}},
	}
	var b strings.Builder
	if err := Format(&b, l, src, 60); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{
		"Error: Too small\n\n  on t.hcl line 2, column 9:\n   2:  size = 12\n              ^^\n\nword",
		"\n  literal line\n", "Warning: No source\n\n  on gone.hcl line 7, column 1:\n\n", "line 99",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if len(line) > 60 {
			t.Errorf("wider than 60: %q", line)
		}
	}
}
