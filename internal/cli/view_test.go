package cli

import (
	"fmt"
	"io"
	"testing"

	"github.com/ingot-build/ingot/internal/event"
)

func TestViewAndColor(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
		env      []string
		progress string
		view     string
		color    bool
	}{
		{"terminal", true, []string{"TERM=xterm"}, "auto", "*ui.TTY", true},
		{"pipe", false, []string{"TERM=xterm"}, "auto", "*ui.Plain", false},
		{"pipe, wanted live", false, []string{"TERM=xterm"}, "tty", "*ui.TTY", false},
		{"terminal, wanted plain", true, []string{"TERM=xterm"}, "plain", "*ui.Plain", true},
		{"terminal that cannot move its cursor", true, []string{"TERM=dumb"}, "auto", "*ui.Plain", false},
		{"Packer's variable", true, []string{"TERM=xterm", "PACKER_NO_COLOR=1"}, "auto", "*ui.TTY", false},
		{"Ingot's variable", true, []string{"TERM=xterm", "INGOT_NO_COLOR=1"}, "auto", "*ui.TTY", false},
		{"everybody's variable", true, []string{"TERM=xterm", "NO_COLOR=1"}, "auto", "*ui.TTY", false},
		{"a log on the same terminal", true, []string{"TERM=xterm", "PACKER_LOG=1"}, "auto", "*ui.Plain", true},
		{"a log in a file", true, []string{"TERM=xterm", "PACKER_LOG_PATH=x"}, "auto", "*ui.TTY", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testStreams(t, io.Discard)
			s.OutTerminal, s.ErrTerminal, s.Env = tt.terminal, tt.terminal, append(s.Env, tt.env...)
			a := &app{Streams: s, report: newReport(s, false)}
			if a.report.color != tt.color {
				t.Errorf("colour %v, want %v", a.report.color, tt.color)
			}
			var r *readers
			if code := a.logged(&command{name: "build"}, func() int {
				r = a.readers(runFlags{progress: tt.progress})
				return exitDone
			}); code != exitDone {
				t.Fatalf("exit code %d", code)
			}
			defer r.close()
			found := false
			for _, l := range r.list {
				found = found || fmt.Sprintf("%T", l) == tt.view
			}
			if !found {
				t.Errorf("readers %T, want %s among them", r.list, tt.view)
			}
			for _, l := range r.list {
				if q, ok := l.(event.Answerer); ok && q.CanAnswer() {
					t.Errorf("%T answers without a terminal to ask on", l)
				}
			}
		})
	}
}
