package debootstrap

import (
	"bufio"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkMirror reports what is wrong with an entry of the option mirrors.
func checkMirror(m string) error {
	if strings.ContainsAny(m, "\n\r") {
		return errors.New("must be one line")
	}
	if strings.HasPrefix(m, "deb ") {
		if len(strings.Fields(m)) < 3 {
			return fmt.Errorf("%q is not a line of sources.list: deb URI SUITE COMPONENT…", m)
		}
		return nil
	}
	u, err := url.Parse(m)
	if err != nil {
		return fmt.Errorf("%q is not a URI: %w", m, err)
	}
	if !slices.Contains([]string{"http", "https", "file", "copy"}, u.Scheme) {
		return fmt.Errorf("%q is not an http, https, file or copy URI", m)
	}
	return nil
}

// sourceLines returns the lines of sources.list of the new system; none means
// mmdebstrap's own default, which is Debian's mirror.
func (c *Config) sourceLines(hostEtc string) []string {
	components := strings.Join(c.Components, " ")
	var lines []string
	for _, m := range c.Mirrors {
		if strings.HasPrefix(m, "deb ") {
			lines = append(lines, m)
			continue
		}
		lines = append(lines, fmt.Sprintf("deb %s %s %s", m, c.Suite, components))
	}
	if len(lines) > 0 {
		return lines
	}
	found := map[string]bool{}
	for _, s := range hostSources(hostEtc) {
		if s.suite != c.Suite && s.suite != c.Suite+"-updates" && s.suite != c.Suite+"-security" {
			continue
		}
		if !found[s.suite] { // a second source of the same suite is somebody else's archive
			found[s.suite] = true
			lines = append(lines, fmt.Sprintf("deb %s %s %s", s.uri, s.suite, components))
		}
	}
	if !found[c.Suite] {
		return nil
	}
	return lines
}

// source is one archive apt reads.
type source struct{ uri, suite string }

// hostSources returns what the host's apt reads over the network, in apt's
// order. What cannot be read is left out: it is only a default.
func hostSources(etc string) []source {
	files := []string{filepath.Join(etc, "sources.list")}
	more, _ := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	var out []source
	for _, f := range append(files, more...) {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		switch filepath.Ext(f) {
		case ".list":
			out = append(out, parseOneLine(string(data))...)
		case ".sources":
			out = append(out, parseDeb822(string(data))...)
		}
	}
	return out
}

// parseOneLine reads apt's one-line format (sources.list(5)).
func parseOneLine(text string) []source {
	var out []source
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, after, ok := strings.Cut(rest, "]")
			if !ok {
				continue
			}
			rest = after
		}
		if f := strings.Fields(rest); len(f) >= 3 && isHTTP(f[0]) {
			out = append(out, source{uri: f[0], suite: f[1]})
		}
	}
	return out
}

// parseDeb822 reads apt's stanzas (sources.list(5)).
func parseDeb822(text string) []source {
	var out []source
	stanza := map[string][]string{}
	flush := func() {
		enabled := stanza["enabled"]
		if slices.Contains(stanza["types"], "deb") && (len(enabled) == 0 || enabled[0] != "no") {
			for _, u := range stanza["uris"] {
				for _, s := range stanza["suites"] {
					if isHTTP(u) {
						out = append(out, source{uri: u, suite: s})
					}
				}
			}
		}
		clear(stanza)
	}
	field := ""
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
			field = ""
		case line[0] == ' ' || line[0] == '\t':
			if field != "" {
				stanza[field] = append(stanza[field], strings.Fields(line)...)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				field = ""
				continue
			}
			field = strings.ToLower(strings.TrimSpace(name))
			stanza[field] = append(stanza[field], strings.Fields(value)...)
		}
	}
	flush()
	return out
}

func isHTTP(uri string) bool {
	return strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")
}

// aptOptions picks from `apt-config dump` what decides how the archive is
// reached from this host: proxies, certificates, retries. The lines are valid
// apt configuration.
func aptOptions(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value == `"";` {
			continue
		}
		for _, want := range []string{"Acquire::http::", "Acquire::https::", "Acquire::Retries", "Acquire::Check-Valid-Until", "Acquire::ForceIPv"} {
			if strings.HasPrefix(name, want) {
				b.WriteString(strings.TrimSpace(line) + "\n")
				break
			}
		}
	}
	return b.String()
}
