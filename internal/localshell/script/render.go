package script

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"text/template"

	"github.com/ingot-build/ingot/internal/communicator"
)

// A Command is a command line that is rendered when everything it may name is
// known: {{.Vars}}, {{.Path}} and what [BuildData] returns, which
// {{ build `Name` }} reads too.
type Command struct{ t *template.Template }

// ParseCommand parses text. The error says where text is wrong.
func ParseCommand(text string) (Command, error) {
	t, err := template.New("command").Option("missingkey=error").Funcs(funcs(nil)).Parse(text)
	if err != nil {
		return Command{}, fmt.Errorf("not a template: %w", err)
	}
	return Command{t}, nil
}

// Render returns the command line. A name that data does not have is an error.
func (c Command) Render(data map[string]any) (string, error) {
	t, err := c.t.Clone()
	if err != nil {
		return "", fmt.Errorf("render command: %w", err)
	}
	var b strings.Builder
	if err := t.Funcs(funcs(data)).Execute(&b, data); err != nil {
		return "", fmt.Errorf("render command: %w", err)
	}
	return b.String(), nil
}

func funcs(data map[string]any) template.FuncMap {
	read := func(name string) (any, error) {
		v, ok := data[name]
		if !ok {
			return nil, fmt.Errorf("the builder gives no value %q", name)
		}
		return v, nil
	}
	return template.FuncMap{
		"build":       read,
		"build_name":  func() (any, error) { return read("BuildName") },
		"build_type":  func() (any, error) { return read("BuilderType") },
		"upper":       strings.ToUpper,
		"lower":       strings.ToLower,
		"replace":     func(old, to string, n int, s string) string { return strings.Replace(s, old, to, n) },
		"replace_all": func(old, to, s string) string { return strings.ReplaceAll(s, old, to) },
	}
}

// BuildData returns what a late template may name of a guest, under the names
// of build.*. The secrets are in it: it is for command lines only.
func BuildData(d communicator.Data, more map[string]any) map[string]any {
	m := map[string]any{
		"ID": d.ID, "Host": d.Host, "Port": d.Port, "User": d.User, "ConnType": d.ConnType,
		"Password": d.Password.Reveal(), "WinRMPassword": d.WinRMPassword.Reveal(),
		"SSHPublicKey": d.SSHPublicKey, "SSHPrivateKey": d.SSHPrivateKey.Reveal(),
		"SSHPrivateKeyFile": d.KeyFile, "PackerRunUUID": d.RunID,
		"PackerHTTPIP": "", "PackerHTTPPort": "", "PackerHTTPAddr": "",
		"BuildName": d.BuildName, "BuilderType": d.BuilderType,
	}
	if d.HTTPIP != "" {
		port := strconv.Itoa(d.HTTPPort)
		m["PackerHTTPIP"], m["PackerHTTPPort"], m["PackerHTTPAddr"] = d.HTTPIP, port, d.HTTPIP+":"+port
	}
	for k, v := range d.Generated {
		m[k] = v
	}
	maps.Copy(m, more)
	return m
}
