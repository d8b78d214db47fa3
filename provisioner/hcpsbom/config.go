// Package hcpsbom is the provisioner "hcp-sbom": it takes a software bill of
// materials from the guest, or makes one of what package managers have
// installed there, and writes it to this machine. Packer sends it to a registry
// of its maker; here it stays with the artifact's owner.
package hcpsbom

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Source           string        `hcl:"source"`
	Destination      string        `hcl:"destination"`
	SbomName         string        `hcl:"sbom_name"`
	AutoGenerate     bool          `hcl:"auto_generate"`
	ScannerArgs      []string      `hcl:"scanner_args"`
	ScannerURL       string        `hcl:"scanner_url"`
	ScannerChecksum  string        `hcl:"scanner_checksum"`
	ScanPath         string        `hcl:"scan_path"`
	ExecuteCommand   string        `hcl:"execute_command,late"`
	ElevatedUser     string        `hcl:"elevated_user"`
	ElevatedPassword secret.String `hcl:"elevated_password"`
}

// Driver returns the provisioner "hcp-sbom".
func Driver() provisioner.Driver { return provisioner.NewDriver("hcp-sbom", open) }

type sbom struct {
	cfg      Config
	format   format // what auto_generate makes
	command  *script.Command
	password script.Command
}

var _ provisioner.Provisioner = (*sbom)(nil)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9-]{3,36}$`)

func open(c Config) (provisioner.Provisioner, error) {
	s := &sbom{cfg: c}
	var errs []error
	warn := func(option, text string) {
		errs = append(errs, &diag.FieldError{Paths: []string{option}, Warn: true, Err: errors.New(text)})
	}
	if (c.Source != "") == c.AutoGenerate {
		errs = append(errs, diag.Fieldsf([]string{"source", "auto_generate"}, "exactly one of source and auto_generate must be set"))
	}
	if c.SbomName != "" && !namePattern.MatchString(c.SbomName) {
		errs = append(errs, diag.Fieldf("sbom_name", "%q is not 3 to 36 letters, digits and dashes", c.SbomName))
	}
	if c.ScannerURL != "" {
		warn("scanner_url", "is deprecated and not used: no scanner is downloaded")
	} else if c.ScannerChecksum != "" {
		errs = append(errs, diag.Fieldsf([]string{"scanner_checksum", "scanner_url"}, "needs scanner_url as well; both are deprecated and not used"))
	}
	if !c.ElevatedPassword.IsEmpty() && c.ElevatedUser == "" {
		errs = append(errs, diag.Fieldsf([]string{"elevated_password", "elevated_user"}, "needs elevated_user as well"))
	}
	if s.cfg.ScanPath == "" {
		s.cfg.ScanPath = "/"
	}
	if len(c.ScannerArgs) == 0 {
		s.cfg.ScannerArgs = []string{"-o", string(cycloneDX)}
	}
	var others bool
	var err error
	if s.format, others, err = parseArgs(s.cfg.ScannerArgs); err != nil {
		errs = append(errs, err)
	}
	if others && c.ExecuteCommand == "" {
		warn("scanner_args", "only -o with a format has an effect; the rest is for an execute_command of your own, as .Args")
	}
	if c.ExecuteCommand != "" {
		t, err := script.ParseCommand(c.ExecuteCommand)
		if err != nil {
			errs = append(errs, diag.Fieldf("execute_command", "is %w", err))
		}
		s.command = &t
	}
	if s.password, err = script.ParseCommand(c.ElevatedPassword.Reveal()); err != nil {
		errs = append(errs, diag.Fieldf("elevated_password", "is not a template, and looks like one"))
	}
	if d := c.Destination; d != "" && !isFolder(d) {
		if !isFolder(filepath.Dir(d)) {
			errs = append(errs, diag.Fieldf("destination", "the folder of %q is not there", d))
		}
	}
	return s, errors.Join(errs...)
}

func isFolder(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.IsDir()
}

// parseArgs finds the format that is asked for.
func parseArgs(args []string) (f format, others bool, err error) {
	f = cycloneDX
	for i := 0; i < len(args); i++ {
		name, v, has := strings.Cut(args[i], "=")
		if name != "-o" && name != "--output" {
			others = true
			continue
		}
		if !has {
			if i++; i >= len(args) {
				return f, others, diag.Fieldf("scanner_args", "%s needs a format", name)
			}
			v = args[i]
		}
		switch format(v) {
		case cycloneDX, spdx:
			f = format(v)
		default:
			return f, others, diag.Fieldf("scanner_args", "the format %q is not known; it is %s or %s", v, cycloneDX, spdx)
		}
	}
	return f, others, nil
}

// Key implements [provisioner.Provisioner]. It is the zero key: what it leaves
// on this machine is not part of the guest.
func (*sbom) Key(context.Context) (checkpoint.Key, error) { return checkpoint.Key{}, nil }
