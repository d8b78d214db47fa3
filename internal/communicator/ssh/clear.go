package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
)

// ClearAuthorizedKeys removes the lines that end in " keyComment" from the
// authorized_keys of the user and, where the user is root or may become it
// with sudo and no password, of root. A file that is not there is no error.
func ClearAuthorizedKeys(ctx context.Context, c communicator.Communicator, keyComment string) error {
	if keyComment == "" || strings.ContainsAny(keyComment, "\r\n\x00") {
		return fmt.Errorf("%q is not the comment of a key", keyComment)
	}
	// Each file is written in place: it keeps its owner, mode and label.
	const one = `f=$1 K=" $2"; export K; [ -f "$f" ] || exit 0; ` +
		`grep -q -F -e "$K" "$f" || exit 0; ` +
		`n=$(awk '{ e = ENVIRON["K"]; if (substr($0, length($0) - length(e) + 1) != e) print }' "$f" && echo .) || exit 1; ` +
		`printf "%s" "${n%.}" >"$f"`
	run := "sh -c " + posixQuote(one) + " sh "
	key := " " + posixQuote(keyComment)
	script := run + `"$HOME/.ssh/authorized_keys"` + key + " </dev/null; r=$?\n" +
		`if [ "$(id -u)" = 0 ]; then ` + run + "/root/.ssh/authorized_keys" + key + " </dev/null || r=$?\n" +
		"elif sudo -n true </dev/null >/dev/null 2>&1; then sudo -n " + run + "/root/.ssh/authorized_keys" + key + " </dev/null || r=$?; fi\n" +
		"exit $r\n"
	var said tail
	err := c.Run(ctx, communicator.Cmd{Line: "/bin/sh -s", Stdin: strings.NewReader(script), Stdout: &said, Stderr: &said})
	var exit *communicator.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("remove the temporary key from authorized_keys: %s: %w", strings.TrimSpace(said.String()), err)
	}
	return err
}

func posixQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
