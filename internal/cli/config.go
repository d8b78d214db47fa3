package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

// checkConfig reads Packer's configuration file: the one that PACKER_CONFIG or
// INGOT_CONFIG names, else .packerconfig in the home folder if it is there.
// Its settings are about update checks and the ports of plugins, of which
// there are none here; what Packer refuses in it is refused.
func (a *app) checkConfig() error {
	path := a.setting("CONFIG")
	asked := path != ""
	if !asked {
		home, _ := a.lookup("HOME")
		if home == "" {
			return nil
		}
		path = filepath.Join(home, ".packerconfig")
	}
	text, err := os.ReadFile(a.abs(path))
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration of Packer: %w", err)
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(text, &config); err != nil {
		return diag.WithHint(fmt.Errorf("configuration of Packer %s: %w", path, err), "it is a JSON object, such as {\"disable_checkpoint\": true}")
	}
	var found []string
	for _, key := range []string{"builders", "provisioners", "post-processors"} {
		if v, ok := config[key]; ok && strings.Trim(string(v), "{}[] \t\r\nnul") != "" {
			found = append(found, key)
		}
	}
	if len(found) > 0 {
		return diag.WithHint(fmt.Errorf("configuration of Packer %s names plugins by their paths: %s", path, strings.Join(found, ", ")),
			"remove that; templates name what they need in required_plugins")
	}
	return nil
}
