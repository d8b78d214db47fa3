package winrm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator/winrm/ntlm"
)

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>`))
	f.Add([]byte(`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Reason><s:Text>x</s:Text></s:Reason>` +
		`<s:Detail><f:WSManFault xmlns:f="f" Code="2150858793"/></s:Detail></s:Fault></s:Body></s:Envelope>`))
	f.Fuzz(func(_ *testing.T, p []byte) { _, _ = parseAnswer(p) })
}

func FuzzEntries(f *testing.F) {
	f.Add("D ZGly\r\nF ZGlyXGE= -1\r\nR YQ==\r\n.\r\n")
	f.Add("F Li4vLi4vYQ== -1\r\nR YQ==\r\n.\r\n")
	f.Add("R YQ==\n.")
	f.Add("F YQ== -1\nG H4sI\n.")
	f.Fuzz(func(t *testing.T, s string) {
		dir := t.TempDir()
		inner := filepath.Join(dir, "inner")
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inner)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		w := &treeWriter{root: root}
		_ = entries(strings.NewReader(s), w.add)
		_ = w.close()
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("a name led out of the folder: %v", list)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	neg, ch := ntlm.Negotiate(), ntlm.NewChallenge([]byte("12345678"), "W", time.Unix(1, 0))
	_, s, err := ntlm.Authenticate(ntlm.Credentials{User: "u", Password: "p"}, neg, ch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrap(s, []byte("x")))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := unwrap(s, p)
		if err == nil && bytes.Equal(got, p) {
			t.Error("a message opened as itself")
		}
	})
}
