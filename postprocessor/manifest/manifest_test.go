package manifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

const when = 1795453201

func process(t *testing.T, c Config, b postprocessor.Build, in artifact.Set) error {
	t.Helper()
	p, err := open(c, b, func() time.Time { return time.Unix(when, 999) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Process(t.Context(), in, event.Discard)
	if err == nil && !reflect.DeepEqual(out, in) {
		t.Errorf("the artifact was changed: %+v", out)
	}
	return err
}

func is(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s is\n%s\n(%v), want\n%s", name, got, err, want)
	}
}

func build(run string) postprocessor.Build {
	return postprocessor.Build{Name: "f", BuilderType: "file", RunID: run, Data: map[string]string{"ID": "vm-1", "Zone": "b"}}
}

const firstEntry = `{
  "builds": [
    {
      "name": "f",
      "builder_type": "file",
      "build_time": 1795453201,
      "files": [
        {
          "name": "out/f.txt",
          "size": 5
        },
        {
          "name": "gone",
          "size": 0
        }
      ],
      "artifact_id": "File",
      "packer_run_uuid": "run-1",
      "custom_data": null
    }`

const secondEntry = `{
      "name": "f",
      "builder_type": "file",
      "files": null,
      "artifact_id": "eu-central-1:ami-1",
      "packer_run_uuid": "run-2",
      "custom_data": {
        "a": "vm-1 \u003cb\u003e \u0026 plain",
        "z": "vm-1"
      }
    }`

func TestBytes(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("out", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("out/f.txt", []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := artifact.Set{ID: "File", Files: []string{"out/f.txt", "gone"}}
	if err := process(t, Config{}, build("run-1"), in); err != nil {
		t.Fatal(err)
	}
	is(t, "packer-manifest.json", firstEntry+`
  ],
  "last_run_uuid": "run-1"
}`)

	second := Config{StripTime: true, CustomData: map[string]string{"z": "{{ build `ID` }}", "a": "{{.ID}} <{{.Zone}}> & plain"}}
	if err := process(t, second, build("run-2"), artifact.Set{ID: "eu-central-1:ami-1"}); err != nil {
		t.Fatal(err)
	}
	is(t, "packer-manifest.json", firstEntry+",\n    "+secondEntry+`
  ],
  "last_run_uuid": "run-2"
}`)

	// -force drops what another run wrote, and nothing of its own.
	forced := build("run-3")
	forced.Force = true
	for range 2 {
		if err := process(t, Config{StripPath: true}, forced, in); err != nil {
			t.Fatal(err)
		}
	}
	var doc document
	raw, err := os.ReadFile("packer-manifest.json")
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err != nil || len(doc.Builds) != 2 || doc.LastRunUUID != "run-3" || doc.Builds[0].Files[0].Name != "f.txt" {
		t.Errorf("%+v %v", doc, err)
	}
	if _, err := os.Stat("packer-manifest.json.lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock file is left: %v", err)
	}
}

func TestFaults(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := open(Config{CustomData: map[string]string{"a": "{{"}}, build("r"), time.Now); len(diag.Flatten(err)) != 1 {
		t.Errorf("%v", err)
	}
	if err := process(t, Config{CustomData: map[string]string{"a": "{{.NoSuch}}"}}, build("r"), artifact.Set{}); err == nil || !strings.Contains(diag.Hint(err), "Zone") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile("m", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := process(t, Config{Output: "m"}, build("r"), artifact.Set{}); err == nil || diag.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	is(t, "m", "{")
	if err := process(t, Config{Output: "no/such/m"}, build("r"), artifact.Set{}); err == nil {
		t.Error("no error")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.lock")
	l, err := try(path, event.Discard)
	if err != nil || l == nil {
		t.Fatal(err)
	}
	if other, err := try(path, event.Discard); err != nil || other != nil {
		t.Fatalf("taken twice: %v", err)
	}
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := acquire(ctx, path, event.Discard); !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	// The holder dies: the file stays, its kernel lock does not.
	if err := l.f.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = try(path, event.Discard); err != nil || l == nil {
		t.Fatalf("a dead holder's lock was not taken over: %v", err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}

	// Packer's lock file: empty, and held by being there, until it is old.
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err = try(path, event.Discard); err != nil || l != nil {
		t.Fatalf("Packer's lock was not respected: %v", err)
	}
	old := time.Now().Add(-2 * staleAfter)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if l, err = try(path, event.Discard); err != nil || l == nil {
		t.Fatalf("Packer's old lock was not taken over: %v", err)
	}
	if err := errors.Join(os.Remove(path), l.release()); err != nil {
		t.Errorf("a lock file that Packer removed: %v", err)
	}
}

const outputVar = "INGOT_TEST_MANIFEST"

// TestProcesses has several processes write one manifest.
func TestProcesses(t *testing.T) {
	if path := os.Getenv(outputVar); path != "" {
		for i := range 5 {
			if err := process(t, Config{Output: path}, build(fmt.Sprint(os.Getpid(), i)), artifact.Set{}); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	path := filepath.Join(t.TempDir(), "m.json")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcesses$")
			cmd.Env = append(os.Environ(), outputVar+"="+path)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	var doc document
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	seen := map[string]bool{}
	for _, e := range doc.Builds {
		seen[e.PackerRunUUID] = true
	}
	if err != nil || len(seen) != 20 || len(doc.Builds) != 20 {
		t.Errorf("%d of 20 entries, %d builds: %v", len(seen), len(doc.Builds), err)
	}
}
