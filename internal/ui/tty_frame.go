package ui

import (
	"bytes"
	"fmt"
	"strings"
)

// draw brings the screen up to date with one write, or none when nothing
// changed. The lock is held.
func (t *TTY) draw() {
	if t.asker.asking() {
		return
	}
	cols, rows := t.size()
	var view []string
	if !t.over {
		view = t.view(cols, rows)
	}
	var live bytes.Buffer
	plain := make([]string, len(view))
	for i, l := range view {
		plain[i] = sanitize(l) // the colours are ours
		live.WriteString(l + clearLine + "\n")
	}
	resized := t.rowsDrawn(cols) != len(t.drawn)
	if t.scroll.Len() == 0 && live.String() == t.shown && !resized && t.hidden == (len(view) > 0) {
		return
	}
	var b bytes.Buffer
	t.up(&b, cols)
	if len(t.drawn) > 0 && (t.scroll.Len() > 0 || resized) {
		b.WriteString(clearBelow) // a line that stays may wrap over the old view
	}
	b.Write(t.scroll.Bytes())
	t.scroll.Reset()
	b.Write(live.Bytes())
	if len(t.drawn) > len(view) {
		b.WriteString(clearBelow)
	}
	if len(view) > 0 && !t.hidden {
		b.WriteString(hideCursor)
		t.hidden = true
	} else if len(view) == 0 {
		t.show(&b)
	}
	t.drawn, t.shown = plain, live.String()
	quietly(t.w.Write(b.Bytes()))
}

// size of the terminal; 80 by 24 where it is not known.
func (t *TTY) size() (cols, rows int) {
	if t.opts.Size != nil {
		cols, rows = t.opts.Size()
	}
	if cols <= 0 {
		cols = 80
	}
	if rows <= 0 {
		rows = 24
	}
	return cols, rows
}

// rowsDrawn is how many rows the view takes: a terminal that became narrower
// has wrapped its lines.
func (t *TTY) rowsDrawn(cols int) int {
	n := 0
	for _, l := range t.drawn {
		n += max(1, (textWidth(l)+cols-1)/cols)
	}
	return n
}

// up moves to the first row of the view.
func (t *TTY) up(b *bytes.Buffer, cols int) {
	if n := t.rowsDrawn(cols); n > 0 {
		fmt.Fprintf(b, "\r\x1b[%dA", n)
	}
}

func (t *TTY) erase(b *bytes.Buffer) {
	cols, _ := t.size()
	if t.up(b, cols); len(t.drawn) > 0 {
		b.WriteString(clearBelow)
	}
	t.drawn, t.shown = nil, ""
}

func (t *TTY) show(b *bytes.Buffer) {
	if t.hidden {
		b.WriteString(showCursor)
		t.hidden = false
	}
}

// view is the live part: at most rows-1 lines of at most cols-1 cells, so that
// neither wraps nor scrolls. Every build comes before transfers, and transfers
// before output.
func (t *TTY) view(cols, rows int) []string {
	room := rows - 1
	if len(t.builds) == 0 || room < 1 {
		return nil
	}
	shown := t.builds
	more := ""
	if len(shown) > room {
		shown = shown[:max(0, room-1)]
		more = fmt.Sprintf("… and %d more", len(t.builds)-len(shown))
		room--
	}
	room -= len(shown)
	transfers, tails := t.share(shown, room)
	var out []string
	for i, b := range shown {
		out = append(out, t.buildLine(b, cols-1))
		for _, task := range b.tasks[:transfers[i]] {
			out = append(out, paint(t.colors.pick(dim), transferLine(task, b.meters[task], cols-1)))
		}
		for _, l := range b.output[len(b.output)-tails[i]:] {
			out = append(out, paint(t.colors.pick(dim), fit("    "+l, cols-1)))
		}
	}
	if more != "" {
		out = append(out, fit(more, cols-1))
	}
	return out
}

// share deals the rows that are left, one at a time, to the builds.
func (t *TTY) share(shown []*liveBuild, room int) (transfers, tails []int) {
	transfers, tails = make([]int, len(shown)), make([]int, len(shown))
	deal := func(got []int, want func(*liveBuild) int) {
		for again := true; again && room > 0; {
			again = false
			for i, b := range shown {
				if room > 0 && got[i] < want(b) {
					got[i]++
					room--
					again = true
				}
			}
		}
	}
	deal(transfers, func(b *liveBuild) int { return len(b.tasks) })
	deal(tails, func(b *liveBuild) int { return min(tailLines, len(b.output)) })
	return transfers, tails
}

// buildLine is "name  step 2/5  0:12 (3:40)".
func (t *TTY) buildLine(b *liveBuild, cols int) string {
	now := t.opts.Now()
	total := clock(now.Sub(b.start))
	right := total
	step := sanitize(b.step.Name)
	if step != "" {
		if b.step.Total > 0 {
			step += fmt.Sprintf(" %d/%d", b.step.Index, b.step.Total)
		}
		if here := clock(now.Sub(b.since)); here != total {
			right = here + " (" + total + ")"
		}
	}
	name := sanitize(b.name)
	room := cols - len(right) - 2
	if room < 8 {
		return paint(t.colors.of(b.name), fit(name, cols))
	}
	if step == "" {
		return paint(t.colors.of(b.name), fit(name, room)) + "  " + right
	}
	left := room - 2
	if textWidth(name)+textWidth(step) > left { // what is being done is worth more than the whole name
		name = fit(name, max(left/2, left-textWidth(step)))
		step = fit(step, left-textWidth(name))
	}
	return paint(t.colors.of(b.name), name) + "  " + step + "  " + right
}

// transferLine drops what matters least where the terminal is narrow.
func transferLine(task string, m *meter, cols int) string {
	task = sanitize(task)
	parts := m.parts()
	for len(parts) > 1 && textWidth(task)+textWidth(strings.Join(parts, "  "))+4 > cols {
		parts = parts[:len(parts)-1]
	}
	right := strings.Join(parts, "  ")
	return fit("  "+fit(task, max(8, cols-textWidth(right)-4))+"  "+right, cols)
}
