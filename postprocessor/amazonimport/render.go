package amazonimport

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
	"github.com/ncruces/go-strftime"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/postprocessor"
)

const defaultKey = "packer-import-{{timestamp}}."

var unclean = regexp.MustCompile(`[^a-zA-Z0-9()\[\] ./\-'@_]`)

// functions are those of Packer's older language in {{ }}.
func functions(b postprocessor.Build, version string, start time.Time) template.FuncMap {
	return template.FuncMap{
		"build_name": func() string { return b.Name },
		"build_type": func() string { return b.BuilderType },
		"build": func(key string) (string, error) {
			if v, ok := b.Data[key]; ok {
				return v, nil
			}
			return "", fmt.Errorf("the builder gave no %q", key)
		},
		"timestamp": func() string { return strconv.FormatInt(start.Unix(), 10) },
		"isotime": func(layout ...string) string {
			return start.UTC().Format(strings.Join(append(layout, time.RFC3339)[:1], ""))
		},
		"strftime":            func(format string) string { return strftime.Format(format, start.UTC()) },
		"uuid":                uuid.NewString,
		"pwd":                 os.Getwd,
		"upper":               strings.ToUpper,
		"lower":               strings.ToLower,
		"replace":             func(old, to string, n int, s string) string { return strings.Replace(s, old, to, n) },
		"replace_all":         func(old, to, s string) string { return strings.ReplaceAll(s, old, to) },
		"clean_resource_name": func(s string) string { return unclean.ReplaceAllString(s, "-") },
		"packer_version":      func() string { return version },
		"user":                func(string) string { return "" }, // as Packer in HCL templates
	}
}

func parse(text string, funcs template.FuncMap) (*template.Template, error) {
	return template.New("").Option("missingkey=error").Funcs(funcs).Parse(text)
}

// parseTemplates finds mistakes in the {{ }} before a build has data.
func (c *Config) parseTemplates() []error {
	funcs := functions(postprocessor.Build{}, "", time.Time{})
	var errs []error
	check := func(name, text string) {
		if _, err := parse(text, funcs); err != nil {
			errs = append(errs, diag.Fieldf(name, "not a template: %w", err))
		}
	}
	check("ami_name", c.Name)
	check("ami_description", c.Description)
	check("s3_bucket_name", c.S3Bucket)
	check("s3_key_name", c.S3Key)
	for _, k := range slices.Sorted(maps.Keys(c.Tags)) {
		check("tags", k)
		check("tags", c.Tags[k])
	}
	return errs
}

// render fills the {{ }} of the options in.
func (o *Options) render(b postprocessor.Build, version string, start time.Time) error {
	funcs := functions(b, version, start)
	data := maps.Clone(b.Data)
	if data == nil {
		data = map[string]string{}
	}
	data["BuildName"], data["BuilderType"] = b.Name, b.BuilderType
	fill := func(name, text string) (string, error) {
		if !strings.Contains(text, "{{") {
			return text, nil
		}
		t, err := parse(text, funcs)
		if err != nil {
			return "", diag.Fieldf(name, "not a template: %w", err)
		}
		var out strings.Builder
		if err := t.Execute(&out, data); err != nil {
			return "", diag.Fieldf(name, "%w", err)
		}
		return out.String(), nil
	}
	var err error
	for _, f := range []struct {
		name string
		text *string
	}{{"ami_name", &o.Name}, {"ami_description", &o.Description}, {"s3_bucket_name", &o.S3Bucket}, {"s3_key_name", &o.S3Key}} {
		if *f.text, err = fill(f.name, *f.text); err != nil {
			return err
		}
	}
	tags := map[string]string{}
	for k, v := range o.Tags {
		if k, err = fill("tags", k); err != nil {
			return err
		}
		if tags[k], err = fill("tags", v); err != nil {
			return err
		}
	}
	o.Tags = tags
	if o.Name != "" && !goodName.MatchString(o.Name) {
		return diag.Fieldf("ami_name", "%q is not 3 to 128 letters, digits and ()[] ./-'@_", o.Name)
	}
	return nil
}

// shortHash tells texts apart where room is scarce.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
