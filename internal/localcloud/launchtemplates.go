package localcloud

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CallerARN is who makes things here.
const CallerARN = "arn:aws:iam::" + AccountID + ":root"

// A LaunchTemplate is a name for versions of a [LaunchSpec].
type LaunchTemplate struct {
	ID, Name        string
	Default, Latest int64 // numbers of versions
	Last            int64 // number given last; none is given twice
	Created         time.Time
	Tags            Tags
}

// RecordKind implements [Record].
func (LaunchTemplate) RecordKind() string { return "launch-template" }

// RecordID implements [Record].
func (l LaunchTemplate) RecordID() string { return l.ID }

// A LaunchTemplateVersion never changes.
type LaunchTemplateVersion struct {
	Template    string // id
	Number      int64
	Description string
	Spec        LaunchSpec
	Created     time.Time
}

// RecordKind implements [Record].
func (LaunchTemplateVersion) RecordKind() string { return "launch-template-version" }

// RecordID implements [Record].
func (v LaunchTemplateVersion) RecordID() string { return versionID(v.Template, v.Number) }

func versionID(template string, number int64) string {
	return template + "/" + strconv.FormatInt(number, 10)
}

// LaunchTemplateParams are those of CreateLaunchTemplate.
type LaunchTemplateParams struct {
	Name, Description string // Description of version 1
	Spec              LaunchSpec
	Token             string
	Tags              Tags
}

// CreateLaunchTemplate makes a template with a first version.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplate.html
func (c *Cloud) CreateLaunchTemplate(ctx context.Context, region string, p LaunchTemplateParams) (l LaunchTemplate, err error) {
	if err := checkTemplateName(p.Name); err != nil {
		return l, err
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		ids, used, err := t.Token("CreateLaunchTemplate", p.Token, p)
		if err != nil {
			return err
		}
		if used {
			l, err = t.findTemplate(ids[0], "")
			return err
		}
		all, err := All[LaunchTemplate](t)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o LaunchTemplate) bool { return o.Name == p.Name }) {
			return Errorf("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use: %s", p.Name)
		}
		l = LaunchTemplate{ID: NewID("lt"), Name: p.Name, Created: t.Now, Default: 1, Latest: 1, Last: 1, Tags: p.Tags.Clone()}
		return firstError(
			Put(t, LaunchTemplateVersion{Template: l.ID, Number: 1, Description: p.Description, Spec: p.Spec, Created: t.Now}),
			Put(t, l),
			t.SaveToken("CreateLaunchTemplate", p.Token, p, l.ID),
		)
	})
	return l, err
}

func checkTemplateName(name string) error {
	bad := strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("()./_-", r)
	})
	if len(name) < 3 || len(name) > 128 || bad >= 0 {
		return Errorf("InvalidLaunchTemplateName.MalformedException", "The launch template name '%s' is invalid. It must be 3 to 128 letters, digits or any of ().-/_", name)
	}
	return nil
}

// findTemplate returns a template by id or, with an empty id, by name.
func (t *Tx) findTemplate(id, name string) (LaunchTemplate, error) {
	switch {
	case id != "" && name != "":
		return LaunchTemplate{}, Errorf("InvalidParameterCombination", "Only one of launchTemplateId and launchTemplateName can be given")
	case id == "" && name == "":
		return LaunchTemplate{}, Errorf("MissingParameter", "The request must contain launchTemplateId or launchTemplateName")
	case id != "" && !ValidID("lt", id):
		return LaunchTemplate{}, Errorf("InvalidLaunchTemplateId.Malformed", "Invalid id: \"%s\" (expecting \"lt-...\")", id)
	case id != "":
		l, ok, err := Get[LaunchTemplate](t, id)
		if err == nil && !ok {
			err = Errorf("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
		}
		return l, err
	}
	all, err := All[LaunchTemplate](t)
	if err != nil {
		return LaunchTemplate{}, err
	}
	i := slices.IndexFunc(all, func(l LaunchTemplate) bool { return l.Name == name })
	if i < 0 {
		return LaunchTemplate{}, Errorf("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", name)
	}
	return all[i], nil
}

// LaunchTemplateOf resolves a choice: the template, and the version it names.
func (t *Tx) LaunchTemplateOf(ch LaunchTemplateChoice) (l LaunchTemplate, v LaunchTemplateVersion, err error) {
	if l, err = t.findTemplate(ch.ID, ch.Name); err != nil {
		return l, v, err
	}
	v, err = t.templateVersion(l, ch.Version)
	return l, v, err
}

// templateVersion returns a version by number, "$Latest", "$Default" or "" for
// the default one.
func (t *Tx) templateVersion(l LaunchTemplate, version string) (v LaunchTemplateVersion, err error) {
	number, err := l.version(version)
	if err != nil {
		return v, err
	}
	v, ok, err := Get[LaunchTemplateVersion](t, versionID(l.ID, number))
	if err == nil && !ok {
		err = noVersion(l, version)
	}
	return v, err
}

func noVersion(l LaunchTemplate, version string) error {
	return Errorf("InvalidLaunchTemplateId.VersionNotFound", "Could not find launch template version %s for launch template %s.", version, l.ID)
}

func (l LaunchTemplate) version(version string) (int64, error) {
	switch version {
	case "", "$Default":
		return l.Default, nil
	case "$Latest":
		return l.Latest, nil
	}
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil || n < 1 {
		return 0, Errorf("InvalidParameterValue", "Value (%s) for parameter version is invalid. It must be a number, $Latest or $Default", version)
	}
	return n, nil
}

// LaunchTemplateVersionParams are those of CreateLaunchTemplateVersion.
type LaunchTemplateVersionParams struct {
	ID, Name    string
	Source      string // version that the new one is based on, "" for none
	Description string
	Spec        LaunchSpec
	Token       string
}

// CreateLaunchTemplateVersion adds a version.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html
func (c *Cloud) CreateLaunchTemplateVersion(ctx context.Context, region string, p LaunchTemplateVersionParams) (l LaunchTemplate, v LaunchTemplateVersion, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if l, err = t.findTemplate(p.ID, p.Name); err != nil {
			return err
		}
		ids, used, err := t.Token("CreateLaunchTemplateVersion", p.Token, p)
		if err != nil {
			return err
		}
		if used {
			v, err = t.templateVersion(l, ids[0])
			return err
		}
		spec := p.Spec
		if p.Source != "" {
			source, err := t.templateVersion(l, p.Source)
			if err != nil {
				return err
			}
			spec = spec.Over(source.Spec)
		}
		l.Last++
		l.Latest = l.Last
		v = LaunchTemplateVersion{Template: l.ID, Number: l.Latest, Description: p.Description, Spec: spec, Created: t.Now}
		return firstError(Put(t, v), Put(t, l),
			t.SaveToken("CreateLaunchTemplateVersion", p.Token, p, strconv.FormatInt(v.Number, 10)))
	})
	return l, v, err
}

// ModifyLaunchTemplate changes which version is the default.
func (c *Cloud) ModifyLaunchTemplate(ctx context.Context, region, id, name, version string) (l LaunchTemplate, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if l, err = t.findTemplate(id, name); err != nil || version == "" {
			return err
		}
		v, err := t.templateVersion(l, version)
		if err != nil {
			return err
		}
		l.Default = v.Number
		return Put(t, l)
	})
	return l, err
}

// DeleteLaunchTemplate removes a template with all its versions.
func (c *Cloud) DeleteLaunchTemplate(ctx context.Context, region, id, name string) (l LaunchTemplate, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if l, err = t.findTemplate(id, name); err != nil {
			return err
		}
		for n := range l.Last {
			if err := Delete[LaunchTemplateVersion](t, versionID(l.ID, n+1)); err != nil {
				return err
			}
		}
		return Delete[LaunchTemplate](t, l.ID)
	})
	return l, err
}

// A VersionRemoval is what became of one version that was to be deleted.
type VersionRemoval struct {
	Number  int64
	Code    string // "": deleted
	Message string
}

// DeleteLaunchTemplateVersions removes versions other than the default one.
// Each is told apart: some may be removed and others not.
func (c *Cloud) DeleteLaunchTemplateVersions(ctx context.Context, region, id, name string, versions []string) (l LaunchTemplate, out []VersionRemoval, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		out = nil
		if l, err = t.findTemplate(id, name); err != nil {
			return err
		}
		for _, version := range versions {
			n, err := l.version(version)
			if err != nil {
				return err
			}
			r := VersionRemoval{Number: n}
			switch _, ok, err := Get[LaunchTemplateVersion](t, versionID(l.ID, n)); {
			case err != nil:
				return err
			case !ok:
				r.Code, r.Message = "launchTemplateVersionDoesNotExist", "The specified launch template version does not exist."
			case n == l.Default:
				r.Code, r.Message = "unexpectedError", "The default version of a launch template cannot be deleted. Make another version the default first."
			default:
				if err := Delete[LaunchTemplateVersion](t, versionID(l.ID, n)); err != nil {
					return err
				}
			}
			out = append(out, r)
		}
		left, err := t.LaunchTemplateVersions(l.ID)
		if err != nil {
			return err
		}
		l.Latest = left[0].Number // the default one is there at least
		return Put(t, l)
	})
	return l, out, err
}

// LaunchTemplateVersions returns the versions of a template, newest first.
func (t *Tx) LaunchTemplateVersions(template string) ([]LaunchTemplateVersion, error) {
	all, err := All[LaunchTemplateVersion](t)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(v LaunchTemplateVersion) bool { return v.Template != template })
	slices.SortFunc(all, func(a, b LaunchTemplateVersion) int { return int(b.Number - a.Number) })
	return all, nil
}

// FindLaunchTemplates returns those with ids and names, all of the region's
// when neither is given, by id.
func (t *Tx) FindLaunchTemplates(ids, names []string) ([]LaunchTemplate, error) {
	if len(ids)+len(names) == 0 {
		return All[LaunchTemplate](t)
	}
	var out []LaunchTemplate
	add := func(id, name string) error {
		l, err := t.findTemplate(id, name)
		if err == nil && !slices.ContainsFunc(out, func(o LaunchTemplate) bool { return o.ID == l.ID }) {
			out = append(out, l)
		}
		return err
	}
	for _, id := range ids {
		if err := add(id, ""); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := add("", name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
