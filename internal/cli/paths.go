package cli

import (
	"errors"
	"path/filepath"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// asError is errors.As, named so that it can stand in a condition with the
// declaration of its target.
func asError[T error](err error, target *T) bool { return errors.As(err, target) }

// cacheDir is where downloads are kept: INGOT_CACHE_DIR, PACKER_CACHE_DIR, or
// the user's cache folder (XDG Base Directory Specification).
func (a *app) cacheDir() string {
	if d := a.setting("CACHE_DIR"); d != "" {
		if !filepath.IsAbs(d) {
			d = filepath.Join(a.Cwd, d)
		}
		return d
	}
	d, err := a.userDir("XDG_CACHE_HOME", ".cache")
	if err != nil {
		return filepath.Join(a.Cwd, ".ingot", "cache") // a service without a home
	}
	return d
}

// stateDir is where runs keep their journals.
func (a *app) stateDir() (string, error) {
	d, err := a.userDir("XDG_STATE_HOME", ".local/state")
	return filepath.Join(d, "runs"), err
}

// userDir is Ingot's folder in a base folder of the XDG specification, which
// wants relative paths ignored.
func (a *app) userDir(env, below string) (string, error) {
	if d, _ := a.lookup(env); filepath.IsAbs(d) {
		return filepath.Join(d, programName), nil
	}
	home, _ := a.lookup("HOME")
	if !filepath.IsAbs(home) {
		return "", diag.WithHint(errors.New("there is no home folder for what a run keeps"), "set HOME or %s to an absolute path", env)
	}
	return filepath.Join(home, filepath.FromSlash(below), programName), nil
}

// masked hides secrets in what is told of a template.
func masked(l diag.List, secrets *secret.Set) diag.List {
	out := make(diag.List, len(l))
	for i, d := range l {
		d.Summary, d.Detail = secrets.Mask(d.Summary), secrets.Mask(d.Detail)
		out[i] = d
	}
	return out
}
