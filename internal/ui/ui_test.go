package ui

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// recording is a run of two builds, one of which fails.
func recording(dir string) []event.Record {
	var out []event.Record
	at := epoch
	add := func(after time.Duration, build, component string, e event.Event) {
		at = at.Add(after)
		out = append(out, event.Record{Seq: int64(len(out) + 1), Time: at, Build: build, Component: component, Event: e})
	}
	const web, db = "site.qemu.web", "site.qemu.db"
	add(0, "", "", event.RunStarted{Run: "r1", Dir: dir, Version: "0.1.0", Builds: []string{web, db}})
	add(0, web, "", event.BuildStarted{})
	add(0, db, "", event.BuildStarted{})
	add(0, web, "", event.StepStarted{Name: "download"})
	add(0, web, "", event.Progress{Task: "download base.qcow2", Done: 0, Total: 4 << 20, Unit: "B"})
	add(20*time.Second, web, "", event.Progress{Task: "download base.qcow2", Done: 1 << 20, Total: 4 << 20, Unit: "B"})
	add(time.Second, web, "", event.Progress{Task: "download base.qcow2", Done: 4 << 20, Total: 4 << 20, Unit: "B"})
	add(time.Second, web, "", event.StepEnded{Name: "download", Elapsed: 22 * time.Second})
	add(0, web, "", event.Detail{Text: "qemu-system-x86_64 -m 512"})
	add(0, web, "", event.StepStarted{Name: "provisioner 1 (shell)", Index: 1, Total: 2})
	add(0, web, "", event.Say{Text: "Provisioning with shell script: a.sh\n  and one more line\n"})
	add(time.Second, web, "", event.Output{Line: "\x1b[32mok\x1b[0m, done\tnow"})
	add(0, db, "", event.StepStarted{Name: "boot"})
	add(0, db, "", event.Output{Line: "no such disk", Stderr: true})
	add(0, db, "", event.Warn{Text: "the guest does not answer"})
	add(time.Minute, db, "", event.StepEnded{Name: "boot", Elapsed: time.Minute, Failed: true})
	add(0, db, "", event.BuildEnded{Elapsed: 63*time.Second + 5*time.Millisecond, Error: "boot: no route to guest\nafter 3 tries", Hint: "open port 22"})
	add(0, web, "manifest", event.Say{Text: "Running post-processor:  (type manifest)"})
	add(time.Second, web, "", event.BuildEnded{Elapsed: 86400 * time.Second, Artifacts: []artifact.Set{
		{BuilderID: "transcend.qemu", ID: "VM", Text: "VM files in directory: out", Files: []string{"out/a,b.qcow2", "out/c.raw"}},
		{Empty: true},
	}})
	add(0, "", "", event.RunEnded{Elapsed: 64 * time.Second})
	return out
}

func feed(r event.Reader, recs []event.Record) {
	for _, rec := range recs {
		r.Read(rec)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

func TestGolden(t *testing.T) {
	recs := recording("/runs/r1")
	for name, mk := range map[string]func(*bytes.Buffer) event.Reader{
		"plain.txt":      func(b *bytes.Buffer) event.Reader { return NewPlain(b, PlainOptions{}) },
		"plain-time.txt": func(b *bytes.Buffer) event.Reader { return NewPlain(b, PlainOptions{Timestamps: true, Terminal: true}) },
		"plain-color.txt": func(b *bytes.Buffer) event.Reader {
			return NewPlain(b, PlainOptions{Color: true, Terminal: true})
		},
		"stream.json": func(b *bytes.Buffer) event.Reader { return NewJSON(b, "0.1.0") },
		"machine.csv": func(b *bytes.Buffer) event.Reader { return NewMachine(b, func() time.Time { return epoch }) },
		"log.txt":     func(b *bytes.Buffer) event.Reader { return NewLog(b) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			feed(mk(&b), recs)
			golden(t, name, b.Bytes())
		})
	}
}

func TestErrorsAreToldOnce(t *testing.T) {
	var b bytes.Buffer
	feed(NewPlain(&b, PlainOptions{}), recording("/runs/r1"))
	if n := strings.Count(b.String(), "no route to guest"); n != 1 {
		t.Errorf("the error stands %d times", n)
	}
	if strings.Index(b.String(), "no route") < strings.Index(b.String(), "The artifacts of successful builds") {
		t.Error("the error comes before the artifacts: it is to be last")
	}
}

func TestCancelled(t *testing.T) {
	recs := []event.Record{
		{Event: event.RunStarted{Builds: []string{"a", "b"}}},
		{Build: "a", Event: event.BuildEnded{Error: "received interrupt", Cancelled: true}},
		{Event: event.RunEnded{}},
	}
	var b bytes.Buffer
	feed(NewPlain(&b, PlainOptions{}), recs)
	if !strings.Contains(b.String(), "Cleanly cancelled builds after being interrupted.") || strings.Contains(b.String(), "received") {
		t.Errorf("clean:\n%s", &b)
	}
	recs[1].Event = event.BuildEnded{Error: "clean-up is not complete", Hint: "look there", Cancelled: true}
	b.Reset()
	feed(NewPlain(&b, PlainOptions{}), recs)
	for _, want := range []string{"\nCancelled builds", "--> a: clean-up is not complete\n    look there\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, &b)
		}
	}
}

func TestJSONLines(t *testing.T) {
	var b bytes.Buffer
	j := NewJSON(&b, "v")
	r := diag.Range{Filename: "a.pkr.hcl", Start: diag.Pos{Line: 1, Column: 2, Byte: 1}, End: diag.Pos{Line: 1, Column: 3, Byte: 2}}
	j.Diagnostics(diag.List{{Severity: diag.Warning, Summary: "S", Subject: &r}, {Severity: diag.Error, Summary: "E"}})
	feed(j, recording("/runs/r1"))
	var types []string
	for l := range bytes.Lines(b.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(l, &m); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		types = append(types, m["type"].(string))
	}
	if got := strings.Join(types[:4], " "); got != "hello diagnostic diagnostic run-started" {
		t.Errorf("types %s", got)
	}
	if !strings.Contains(b.String(), `"severity":"warning","summary":"S","range":{"file":"a.pkr.hcl","start":{"line":1,"column":2,"byte":1}`) {
		t.Errorf("diagnostic: %s", &b)
	}
}

func FuzzMachineIsCSV(f *testing.F) {
	f.Add("a,b\r\nc", "x")
	f.Fuzz(func(t *testing.T, text, build string) {
		if strings.Contains(text+build, `"`) {
			t.Skip("the format quotes nothing")
		}
		var b bytes.Buffer
		NewMachine(&b, time.Now).Line(build, "ui", "say", text)
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil || len(rows) != 1 || len(rows[0]) != 5 {
			t.Errorf("%q: %v %v", text, rows, err)
		}
	})
}

func TestRunLog(t *testing.T) {
	dir := t.TempDir()
	l := &RunLog{}
	l.Read(event.Record{Time: epoch, Event: event.Say{Text: "before the run"}})
	feed(l, recording(dir))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, LogName))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before the run", "detail: qemu-system-x86_64", "run-ended"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("no %q in the log", want)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, LogName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	l = &RunLog{}
	feed(l, recording(filepath.Join(dir, "not-there")))
	if l.Close() == nil {
		t.Error("a log that cannot be opened is no error")
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0 seconds",
		63 * time.Second:        "1 minute 3 seconds",
		3661 * time.Second:      "1 hour 1 minute",
		25 * time.Hour:          "1 day 1 hour",
		1500 * time.Microsecond: "1 millisecond 500 microseconds",
		-time.Second:            "0 seconds",
	} {
		if got := words(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestAmount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 1 << 30: "1.0 GiB", 20 << 30: "20 GiB"} {
		if got := amount(n, "B"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := amount(3, "regions"); got != "3 regions" {
		t.Error(got)
	}
}

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                "plain",
		"\x1b[1;31mred\x1b[0m": "red",
		"\x1b]0;title\x07x":    "x",
		"\x1b]8;;http://h\x1b\\link\x1b]8;;\x1b\\": "link",
		"\x1bP1$tx\x1b\\after":                     "after",
		"\x1b(Bx\x1b7y\x1bcz":                      "xyz",
		"a\rb\x00\x08c\x7f":                        "abc",
		"tab\tx":                                   "tab    x",
		"\u009b31mx\u009d0;t\u009cy":               "xy",
		"un\x1b]0;finished\nnext":                  "un\nnext",
		"\x1b[":                                    "",
		"ünï 中":                                    "ünï 中",
		"bad\xff":                                  "bad\ufffd",
		"a\u202eb":                                 "a\ufffdb",
	} {
		if got := sanitize(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("\x1b[1mx\x1b]0;t\x07\u009b1m\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := sanitize(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q: %q is not UTF-8", s, got)
		}
		for _, r := range got {
			if r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0) {
				t.Errorf("%q: %U is left", s, r)
			}
		}
		if sanitize(got) != got {
			t.Errorf("%q: not stable", s)
		}
	})
}
