// Package bootcommand is the language in which a template says what is typed
// at a guest that has no network yet: plain characters, <wait10s>, <enter>,
// <leftCtrlOn>.
package bootcommand

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ingot-build/ingot/internal/poll"
)

// A Keyboard takes key changes. sym is an X11 keysym
// (https://www.x.org/releases/X11R7.7/doc/xproto/x11protocol.html#keysym_encoding).
type Keyboard interface {
	Key(ctx context.Context, sym uint32, down bool) error
}

// Move is what happens to a key.
type Move int

// The moves.
const (
	Press   Move = iota // down and up
	Hold                // down, until a Release
	Release             // up
)

// An Action is one thing to do: a pause when Wait is set, else a key.
type Action struct {
	Wait  time.Duration
	Sym   uint32
	Shift bool // the left shift key is held around a Press
	Move  Move
}

const leftShift = 0xffe1

// special keys by their lower-case names.
func special(name string) (uint32, bool) {
	switch name {
	case "bs":
		return 0xff08, true
	case "tab":
		return 0xff09, true
	case "enter", "return":
		return 0xff0d, true
	case "esc":
		return 0xff1b, true
	case "del":
		return 0xffff, true
	case "insert":
		return 0xff63, true
	case "home":
		return 0xff50, true
	case "end":
		return 0xff57, true
	case "left":
		return 0xff51, true
	case "up":
		return 0xff52, true
	case "right":
		return 0xff53, true
	case "down":
		return 0xff54, true
	case "pageup":
		return 0xff55, true
	case "pagedown":
		return 0xff56, true
	case "spacebar":
		return 0x20, true
	case "menu":
		return 0xff67, true
	case "leftshift":
		return leftShift, true
	case "rightshift":
		return 0xffe2, true
	case "leftctrl":
		return 0xffe3, true
	case "rightctrl":
		return 0xffe4, true
	case "leftalt", "leftcommand":
		return 0xffe9, true
	case "rightalt", "rightcommand":
		return 0xffea, true
	case "leftsuper":
		return 0xffeb, true
	case "rightsuper":
		return 0xffec, true
	case "leftoption":
		return 0xffe7, true
	case "rightoption":
		return 0xffe8, true
	}
	if n, ok := strings.CutPrefix(name, "f"); ok {
		if i, err := strconv.Atoi(n); err == nil && i >= 1 && i <= 12 && strconv.Itoa(i) == n {
			return 0xffbe + uint32(i) - 1, true
		}
	}
	return 0, false
}

// Parse reads a boot command. What looks like a token and is none is typed as
// it stands. The one error is a wait that is negative or too long.
func Parse(s string) ([]Action, error) {
	var acts []Action
	for s != "" {
		if s[0] == '<' {
			a, n, err := token(s)
			if err != nil {
				return nil, err
			}
			if n > 0 {
				acts = append(acts, a)
				s = s[n:]
				continue
			}
		}
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			return nil, fmt.Errorf("boot command is not UTF-8 at %q", s[:1])
		}
		s = s[n:]
		if r == '\n' || r == '\r' {
			continue // the line ends of a heredoc; a key is <enter>
		}
		acts = append(acts, Action{Sym: keysym(r), Shift: shifted(r)})
	}
	return acts, nil
}

// token reads the token that s begins with; n is 0 when there is none.
func token(s string) (a Action, n int, err error) {
	// <xOn>, <xOff> for any character x, ">" among them.
	r, size := utf8.DecodeRuneInString(s[1:])
	for _, suffix := range []string{"on>", "off>"} {
		rest := s[min(len(s), 1+size):]
		if size > 0 && r != utf8.RuneError && len(rest) >= len(suffix) && strings.EqualFold(rest[:len(suffix)], suffix) {
			return Action{Sym: keysym(r), Move: toggle(suffix)}, 1 + size + len(suffix), nil
		}
	}
	end := strings.IndexByte(s, '>')
	if end < 0 {
		return a, 0, nil
	}
	name := strings.ToLower(s[1:end])
	if d, ok := strings.CutPrefix(name, "wait"); ok {
		w, ok, err := wait(d)
		if err != nil {
			return a, 0, fmt.Errorf("boot command: %s: %w", s[:end+1], err)
		}
		if ok {
			return Action{Wait: w}, end + 1, nil
		}
	}
	if sym, ok := special(name); ok {
		return Action{Sym: sym}, end + 1, nil
	}
	for _, suffix := range []string{"on", "off"} {
		if key, ok := strings.CutSuffix(name, suffix); ok {
			if sym, ok := special(key); ok {
				return Action{Sym: sym, Move: toggle(suffix)}, end + 1, nil
			}
		}
	}
	return a, 0, nil
}

func toggle(suffix string) Move {
	if strings.HasPrefix(suffix, "on") {
		return Hold
	}
	return Release
}

// wait reads the text after "wait": nothing, seconds, or a Go duration.
func wait(text string) (d time.Duration, ok bool, err error) {
	if text == "" {
		return time.Second, true, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 || n > int64(1<<62/time.Second) {
			return 0, false, fmt.Errorf("a wait of %d seconds is not possible", n)
		}
		return time.Duration(n) * time.Second, true, nil
	}
	if d, err = time.ParseDuration(text); err != nil {
		return 0, false, nil
	}
	if d < 0 {
		return 0, false, fmt.Errorf("a wait cannot be negative")
	}
	return d, true, nil
}

// keysym of a character: Latin-1 is itself, the rest is in the Unicode range.
func keysym(r rune) uint32 {
	if r <= 0xff {
		return uint32(r)
	}
	return 0x01000000 + uint32(r)
}

func shifted(r rune) bool {
	return r >= 'A' && r <= 'Z' || strings.ContainsRune(`~!@#$%^&*()_+{}|:"<>?`, r)
}

// Type does acts on k, with a pause of interval after each change of a key.
// Keys that are held stay down until they are released.
func Type(ctx context.Context, k Keyboard, acts []Action, interval time.Duration) error {
	key := func(sym uint32, down bool) error {
		if err := k.Key(ctx, sym, down); err != nil {
			return err
		}
		return poll.Sleep(ctx, interval)
	}
	for _, a := range acts {
		type change struct {
			sym  uint32
			down bool
		}
		var todo []change
		switch {
		case a.Sym == 0:
			if err := poll.Sleep(ctx, a.Wait); err != nil {
				return err
			}
		case a.Move == Hold:
			todo = []change{{a.Sym, true}}
		case a.Move == Release:
			todo = []change{{a.Sym, false}}
		case a.Shift:
			todo = []change{{leftShift, true}, {a.Sym, true}, {a.Sym, false}, {leftShift, false}}
		default:
			todo = []change{{a.Sym, true}, {a.Sym, false}}
		}
		for _, c := range todo {
			if err := key(c.sym, c.down); err != nil {
				return err
			}
		}
	}
	return nil
}
