package cli

import (
	"regexp"
	"strings"
)

// name is what the program goes by in what it tells: packer when it was called
// so, by a link for example, else ingot.
func (a *app) name() string {
	if a.asPacker() {
		return strings.TrimSuffix(a.Name, ".exe")
	}
	return programName
}

// asPacker reports whether the program was called by a name of Packer. Some
// distributions have it under another one, such as packer-io.
func (a *app) asPacker() bool {
	rest, ok := strings.CutPrefix(strings.ToLower(a.Name), "packer")
	return ok && (rest == "" || !('a' <= rest[0] && rest[0] <= 'z'))
}

// identity says what a program called packer is.
func (a *app) identity() string {
	return "This is Ingot " + displayVersion(a.Version) + ", compatible with Packer v" + PackerVersion + "."
}

// renamed returns text with the commands in it as the user would type them.
func (a *app) renamed(text string) string {
	if !a.asPacker() {
		return text
	}
	text = strings.ReplaceAll(text, "/ingot.fish", "/"+a.name()+".fish")
	command := regexp.MustCompile(`(^|[^\w./-])ingot (-autocomplete|(?:` + strings.Join(a.names(), "|") + `)\b)`)
	return command.ReplaceAllString(text, "${1}"+strings.ReplaceAll(a.name(), "$", "$$")+" ${2}")
}
