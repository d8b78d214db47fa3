package ssh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/ingot-build/ingot/internal/diag"
)

// askTerminal asks the person at the controlling terminal. The answers are
// not shown unless echo says so.
func askTerminal(ctx context.Context, instruction string, questions []string, echo []bool) ([]string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, &permanentError{diag.WithHint(fmt.Errorf("the bastion asks a question and there is no terminal: %w", err),
			"run the build in a terminal, or use ssh_bastion_password or a key in place of ssh_bastion_interactive")}
	}
	defer tty.Close() //nolint:errcheck // a terminal
	stop := context.AfterFunc(ctx, func() { _ = tty.Close() })
	defer stop()
	if instruction != "" {
		_, _ = fmt.Fprintln(tty, printable(instruction))
	}
	answers := make([]string, len(questions))
	lines := bufio.NewReader(tty)
	for i, q := range questions {
		_, _ = io.WriteString(tty, printable(q))
		if i < len(echo) && echo[i] {
			answers[i], err = lines.ReadString('\n')
		} else {
			var b []byte
			b, err = term.ReadPassword(int(tty.Fd()))
			answers[i] = string(b)
			_, _ = fmt.Fprintln(tty)
		}
		if err != nil {
			return nil, errors.Join(context.Cause(ctx), fmt.Errorf("read the answer: %w", err))
		}
		answers[i] = strings.TrimRight(answers[i], "\r\n")
	}
	return answers, nil
}

// printable drops what could steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return -1
		}
		return r
	}, s)
}
