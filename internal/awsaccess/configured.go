package awsaccess

import (
	"os"
	"path/filepath"
	"slices"
)

// Configured reports whether somebody has set up credentials on this machine,
// by the environment and the files that the SDK reads. Those of an instance's
// role are not looked for: that would take a while where there are none.
func Configured() bool {
	set := func(name string) bool { return environment(name) != "" }
	if slices.ContainsFunc([]string{
		"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	}, set) {
		return true
	}
	for _, f := range []struct{ env, name string }{{"AWS_SHARED_CREDENTIALS_FILE", "credentials"}, {"AWS_CONFIG_FILE", "config"}} {
		path := environment(f.env)
		if home, err := os.UserHomeDir(); path == "" && err == nil {
			path = filepath.Join(home, ".aws", f.name)
		}
		if _, err := os.Stat(path); path != "" && err == nil {
			return true
		}
	}
	return false
}
