package amazon

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
	"github.com/ncruces/go-strftime"

	"github.com/ingot-build/ingot/internal/diag"
)

// A renderer fills the {{ }} of options, the older of the two languages of
// Packer's templates. It has no state: the same text renders the same but for
// {{uuid}}.
type renderer struct {
	start            time.Time // of the process, which {{timestamp}} and {{isotime}} tell
	buildName, btype string
	version          string
}

// sourceData is what the options that are rendered last can name.
type sourceData struct {
	BuildRegion           string
	SourceAMI             string
	SourceAMIName         string
	SourceAMICreationDate string
	SourceAMIOwner        string
	SourceAMIOwnerName    string
	SourceAMITags         map[string]string
}

var unclean = regexp.MustCompile(`[^a-zA-Z0-9()\[\] ./\-'@_]`)

// cleanName makes a text fit for the name of an image.
func cleanName(s string) string { return unclean.ReplaceAllString(s, "-") }

func (r renderer) funcs() template.FuncMap {
	unavailable := func(name, instead string) func(...any) (string, error) {
		return func(...any) (string, error) {
			return "", fmt.Errorf("%s is not available in the options of this builder; %s", name, instead)
		}
	}
	const hcl = "use the HCL function of that name in a local"
	return template.FuncMap{
		"build_name": func() string { return r.buildName },
		"build_type": func() string { return r.btype },
		"isotime": func(layout ...string) (string, error) {
			switch len(layout) {
			case 0:
				return r.start.UTC().Format(time.RFC3339), nil
			case 1:
				return r.start.UTC().Format(layout[0]), nil
			}
			return "", errors.New("isotime takes one layout")
		},
		"strftime":  func(format string) string { return strftime.Format(format, r.start.UTC()) },
		"timestamp": func() string { return strconv.FormatInt(r.start.Unix(), 10) },
		"uuid":      func() string { return uuid.NewString() },
		"pwd":       os.Getwd,
		"split": func(s, sep string, n int) (string, error) {
			parts := strings.Split(s, sep)
			if n < 0 || n >= len(parts) {
				return "", fmt.Errorf("split: %q has no part %d", s, n)
			}
			return parts[n], nil
		},
		"replace":                func(old, to string, n int, s string) string { return strings.Replace(s, old, to, n) },
		"replace_all":            func(old, to, s string) string { return strings.ReplaceAll(s, old, to) },
		"upper":                  strings.ToUpper,
		"lower":                  strings.ToLower,
		"packer_version":         func() string { return r.version },
		"user":                   func(string) string { return "" }, // as Packer in HCL templates
		"clean_resource_name":    cleanName,
		"env":                    unavailable("env", "use a variable with default = env(\"NAME\")"),
		"template_dir":           unavailable("template_dir", "write ${path.root}"),
		"vault":                  unavailable("vault", hcl),
		"consul_key":             unavailable("consul_key", hcl),
		"aws_secretsmanager":     unavailable("aws_secretsmanager", hcl),
		"aws_secretsmanager_raw": unavailable("aws_secretsmanager_raw", hcl),
		"sed":                    unavailable("sed", "use replace_all, or the HCL function regex_replace"),
	}
}

// render fills text with data, which is a sourceData or nil for what has no
// source image yet. A tag that the source image does not have is empty.
func (r renderer) render(text string, data any) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Option("missingkey=zero").Funcs(r.funcs()).Parse(text)
	if err != nil {
		return "", fmt.Errorf("%q is not a template: %w", text, err)
	}
	if data == nil {
		data = struct{}{}
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	return b.String(), nil
}

// sample stands for the source image before it is known.
var sample = sourceData{
	BuildRegion: "us-east-1", SourceAMI: "ami-0123456789abcdef0", SourceAMIName: "name",
	SourceAMICreationDate: "2000-01-01T00:00:00.000Z", SourceAMIOwner: "123456789012", SourceAMIOwnerName: "self",
	SourceAMITags: map[string]string{},
}

// late are the options that are rendered when the source image is known.
var late = map[string]bool{
	"ami_name": true, "ami_description": true, "tags": true, "tag": true, "snapshot_tags": true, "snapshot_tag": true,
	"run_tags": true, "run_tag": true, "run_volume_tags": true, "run_volume_tag": true,
	"fleet_tags": true, "fleet_tag": true, "spot_tags": true, "spot_tag": true,
	"assume_role": true, // its tags are those of a session, not of an image: taken as they are
}

// early renders every text in the options of the struct dst points to, the
// late ones excepted: those are tried with a sample, so that a mistake is told
// before anything is made.
func (r renderer) early(dst any) []error {
	var errs []error
	fill := func(path, text string) string {
		out, err := r.render(text, nil)
		if err != nil {
			errs = append(errs, diag.Fieldf(path, "%w", err))
			return text
		}
		return out
	}
	try := func(path, text string) string {
		if _, err := r.render(text, sample); err != nil {
			errs = append(errs, diag.Fieldf(path, "%w", err))
		}
		return text
	}
	walk("", reflect.ValueOf(dst).Elem(), fill, try)
	return errs
}

// walk hands every text under v to fill, and those of late options to try. It
// stores what they return.
func walk(path string, v reflect.Value, fill, try func(path, text string) string) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); strings.Contains(s, "{{") {
			v.SetString(fill(path, s))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			walk(path, v.Elem(), fill, try)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(fmt.Sprintf("%s[%d]", path, i), v.Index(i), fill, try)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if s := it.Value().String(); it.Value().Kind() == reflect.String && strings.Contains(s, "{{") {
				v.SetMapIndex(it.Key(), reflect.ValueOf(fill(path+"."+it.Key().String(), s)))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			sf := v.Type().Field(i)
			tag, tagged := sf.Tag.Lookup("hcl")
			if !tagged {
				if sf.Anonymous {
					walk(path, v.Field(i), fill, try)
				}
				continue
			}
			name, _, _ := strings.Cut(tag, ",")
			sub := name
			if path != "" {
				sub = path + "." + name
			}
			if late[name] {
				walk(sub, v.Field(i), try, try)
			} else {
				walk(sub, v.Field(i), fill, try)
			}
		}
	}
}
