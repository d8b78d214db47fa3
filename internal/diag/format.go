package diag

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Format writes l for a person: severity and summary, the place, the source
// line with the place marked, the detail wrapped at width columns. sources
// holds file contents by name; a file that is missing there is named without
// an excerpt.
func Format(w io.Writer, l List, sources map[string][]byte, width int) error {
	if width < 40 {
		width = 80
	}
	var b bytes.Buffer
	for _, d := range l {
		fmt.Fprintf(&b, "%s: %s\n\n", d.Severity, d.Summary)
		if d.Subject != nil {
			formatExcerpt(&b, d, sources)
		}
		if d.Detail != "" {
			wrap(&b, d.Detail, width)
			b.WriteString("\n")
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func formatExcerpt(b *bytes.Buffer, d Diagnostic, sources map[string][]byte) {
	r := *d.Subject
	if r.Start.Line == 0 {
		fmt.Fprintf(b, "  on %s\n\n", r.Filename)
		return
	}
	fmt.Fprintf(b, "  on %s line %d, column %d:\n", r.Filename, r.Start.Line, r.Start.Column)
	src, ok := sources[r.Filename]
	if !ok {
		b.WriteString("\n")
		return
	}
	lines := strings.Split(string(src), "\n")
	first, last := r.Start.Line, r.Start.Line
	if d.Context != nil && d.Context.Filename == r.Filename {
		first, last = min(first, d.Context.Start.Line), max(last, min(d.Context.End.Line, first+4))
	}
	for n := first; n <= last && n <= len(lines); n++ {
		text := strings.ReplaceAll(strings.TrimSuffix(lines[n-1], "\r"), "\t", " ")
		fmt.Fprintf(b, "%4d: %s\n", n, text)
		if n == r.Start.Line {
			fmt.Fprintf(b, "      %s%s\n", strings.Repeat(" ", max(0, r.Start.Column-1)), strings.Repeat("^", underline(r, text)))
		}
	}
	b.WriteString("\n")
}

func underline(r Range, line string) int {
	end := r.End.Column
	if r.End.Line != r.Start.Line {
		end = len([]rune(line)) + 1
	}
	return max(1, end-r.Start.Column)
}

// wrap breaks the paragraphs of text at width; a line that begins with white
// space is a literal and kept.
func wrap(b *bytes.Buffer, text string, width int) {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			b.WriteString(line + "\n")
			continue
		}
		col := 0
		for i, word := range strings.Fields(line) {
			n := len([]rune(word))
			switch {
			case i == 0:
			case col+1+n > width:
				b.WriteString("\n")
				col = 0
			default:
				b.WriteString(" ")
				col++
			}
			b.WriteString(word)
			col += n
		}
		b.WriteString("\n")
	}
}
