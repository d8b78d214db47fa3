package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, dir string) {
	t.Helper()
	j, err := Create(dir, time.Now, Header{Version: "1.2.3", Run: "r", Builds: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{
		{Kind: KindBegin, Build: "b", Step: "disk"},
		{Kind: KindState, Build: "b", Data: json.RawMessage(`{"id":"x"}`)},
		{Kind: KindDone, Build: "b", Step: "disk"},
	} {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(Record{}); err == nil {
		t.Fatal("a closed journal takes records")
	}
}

func TestTornAtEveryByteOfTheLastRecord(t *testing.T) {
	dir := t.TempDir()
	write(t, dir)
	path := filepath.Join(dir, FileName)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
	for cut := last; cut < len(raw); cut++ {
		if err := os.WriteFile(path, raw[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, recs, err := Open(dir, time.Now)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if len(recs) != 3 {
			t.Fatalf("cut at %d: %d records", cut, len(recs))
		}
		if err := errors.Join(j.Append(Record{Kind: KindUndo, Step: "disk"}), j.Close()); err != nil {
			t.Fatal(err)
		}
		if _, recs, err = Read(dir); err != nil || len(recs) != 4 || recs[3].Kind != KindUndo {
			t.Fatalf("cut at %d, after append: %v %v", cut, recs, err)
		}
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir)
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) - 1 { // the last newline gone is a torn line
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		_, recs, _, err := parse("journal", bad)
		var c *CorruptError
		// A flip that makes or unmakes a newline may leave whole records; it
		// must never give a record that was not written.
		if errors.As(err, &c) {
			continue
		}
		if raw[i] != '\n' || len(recs) >= 4 {
			t.Fatalf("bit flipped in byte %d (%q): %d records, err %v", i, raw[i], len(recs), err)
		}
	}
}

func TestUnknownFormatNamesItsWriter(t *testing.T) {
	data, _ := json.Marshal(Header{Format: 99, Version: "9.0.0"})
	line, _ := encode(Record{Seq: 1, Kind: KindRun, Data: data})
	_, _, _, err := parse("journal", line)
	var f *FormatError
	if !errors.As(err, &f) || f.Version != "9.0.0" {
		t.Fatalf("err = %v", err)
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, time.Now, Header{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	_, _, err = Open(dir, time.Now)
	var h *HeldError
	if !errors.As(err, &h) || h.Holder.PID != os.Getpid() {
		t.Fatalf("err = %v", err)
	}
}

func TestHeld(t *testing.T) {
	dir := t.TempDir()
	if err := Held(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a lock: %v", err)
	}
	j, err := Create(dir, time.Now, Header{})
	if err != nil {
		t.Fatal(err)
	}
	var h *HeldError
	if err := Held(dir); !errors.As(err, &h) || h.Holder.PID != os.Getpid() {
		t.Errorf("while it is held: %v", err)
	}
	if err := errors.Join(j.Close(), Held(dir), Held(dir)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if j, _, err = Open(dir, time.Now); err != nil {
		t.Fatalf("a look keeps the lock: %v", err)
	}
	_ = j.Close()
}

func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	j, err := Create(dir, time.Now, Header{Run: "r"})
	if err != nil {
		f.Fatal(err)
	}
	_ = j.Append(Record{Kind: KindBegin, Step: "s"})
	_ = j.Close()
	raw, _ := os.ReadFile(filepath.Join(dir, FileName))
	f.Add(raw)
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, recs, whole, err := parse("journal", b)
		if err == nil && (len(recs) == 0 || whole > len(b)) {
			t.Fatalf("%d records, %d of %d bytes", len(recs), whole, len(b))
		}
	})
}
