package network

import (
	"context"
	"slices"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) launchTemplates() awswire.Operations {
	return awswire.Operations{
		"CreateLaunchTemplate":           awswire.Op(a.createTemplate),
		"CreateLaunchTemplateVersion":    awswire.Op(a.createTemplateVersion),
		"DescribeLaunchTemplates":        awswire.Op(a.describeTemplates),
		"DescribeLaunchTemplateVersions": awswire.Op(a.describeTemplateVersions),
		"ModifyLaunchTemplate":           awswire.Op(a.modifyTemplate),
		"DeleteLaunchTemplate":           awswire.Op(a.deleteTemplate),
		"DeleteLaunchTemplateVersions":   awswire.Op(a.deleteTemplateVersions),
		"GetLaunchTemplateData":          awswire.Op(a.templateDataOf),
	}
}

type launchTemplate struct {
	ID      string        `xml:"launchTemplateId"`
	Name    string        `xml:"launchTemplateName"`
	Created string        `xml:"createTime"`
	By      string        `xml:"createdBy"`
	Default int64         `xml:"defaultVersionNumber"`
	Latest  int64         `xml:"latestVersionNumber"`
	Tags    []ec2wire.Tag `xml:"tagSet>item"`
}

func toTemplate(l localcloud.LaunchTemplate) launchTemplate {
	return launchTemplate{
		ID: l.ID, Name: l.Name, Created: awswire.Time(l.Created), By: localcloud.CallerARN,
		Default: l.Default, Latest: l.Latest, Tags: ec2wire.Tags(l.Tags),
	}
}

type templateOut struct {
	Template launchTemplate `xml:"launchTemplate"`
}

// templateDataIn is RequestLaunchTemplateData.
type templateDataIn struct {
	ec2wire.Launch
	RAMDisk string `q:"RamDiskId"`
}

func (in *templateDataIn) spec() (localcloud.LaunchSpec, error) {
	s, err := in.Spec()
	s.RamdiskID = in.RAMDisk
	return s, err
}

type createTemplateIn struct {
	ec2wire.DryRun
	Name        string            `q:"LaunchTemplateName,required"`
	Description string            `q:"VersionDescription"`
	Data        templateDataIn    `q:"LaunchTemplateData,required"`
	Token       string            `q:"ClientToken"`
	Tags        []ec2wire.TagSpec `q:"TagSpecification"`
}

func (a *api) createTemplate(ctx context.Context, c *awswire.Call, in *createTemplateIn) (*templateOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "launch-template")
	if err != nil {
		return nil, err
	}
	spec, err := in.Data.spec()
	if err != nil {
		return nil, err
	}
	l, err := a.cloud.CreateLaunchTemplate(dry(ctx, in.DryRun), c.Region, localcloud.LaunchTemplateParams{
		Name: in.Name, Description: in.Description, Spec: spec, Token: in.Token, Tags: tags,
	})
	if err != nil {
		return nil, err
	}
	return &templateOut{toTemplate(l)}, nil
}

// templateIn names a template by id or name.
type templateIn struct {
	ec2wire.DryRun
	ID   string `q:"LaunchTemplateId"`
	Name string `q:"LaunchTemplateName"`
}

type templateVersion struct {
	ID          string       `xml:"launchTemplateId"`
	Name        string       `xml:"launchTemplateName"`
	Number      int64        `xml:"versionNumber"`
	Description string       `xml:"versionDescription,omitempty"`
	Created     string       `xml:"createTime"`
	By          string       `xml:"createdBy"`
	Default     bool         `xml:"defaultVersion"`
	Data        templateData `xml:"launchTemplateData"`
}

// A numbered version is one with its template.
type numbered struct {
	localcloud.LaunchTemplateVersion
	template localcloud.LaunchTemplate
}

func (n numbered) reply() templateVersion {
	return templateVersion{
		ID: n.Template, Name: n.template.Name, Number: n.Number, Description: n.Description, Created: awswire.Time(n.Created),
		By: localcloud.CallerARN, Default: n.Number == n.template.Default, Data: toTemplateData(n.Spec),
	}
}

type createTemplateVersionIn struct {
	templateIn
	Source      string         `q:"SourceVersion"`
	Description string         `q:"VersionDescription"`
	Data        templateDataIn `q:"LaunchTemplateData,required"`
	Token       string         `q:"ClientToken"`
}

type templateVersionOut struct {
	Version templateVersion `xml:"launchTemplateVersion"`
}

func (a *api) createTemplateVersion(ctx context.Context, c *awswire.Call, in *createTemplateVersionIn) (*templateVersionOut, error) {
	spec, err := in.Data.spec()
	if err != nil {
		return nil, err
	}
	l, v, err := a.cloud.CreateLaunchTemplateVersion(dry(ctx, in.DryRun), c.Region, localcloud.LaunchTemplateVersionParams{
		ID: in.ID, Name: in.Name, Source: in.Source, Description: in.Description, Spec: spec, Token: in.Token,
	})
	if err != nil {
		return nil, err
	}
	return &templateVersionOut{numbered{v, l}.reply()}, nil
}

var templateFilters = ec2wire.FilterBy[localcloud.LaunchTemplate]{
	"launch-template-name": func(l localcloud.LaunchTemplate) []string { return ec2wire.One(l.Name) },
	"create-time":          func(l localcloud.LaunchTemplate) []string { return ec2wire.One(awswire.Time(l.Created)) },
}

type describeTemplatesIn struct {
	listIn
	IDs   []string `q:"LaunchTemplateId"`
	Names []string `q:"LaunchTemplateName"`
}

type describeTemplatesOut struct {
	Templates []launchTemplate `xml:"launchTemplates>item"`
	Next      string           `xml:"nextToken,omitempty"`
}

func (a *api) describeTemplates(ctx context.Context, c *awswire.Call, in *describeTemplatesIn) (*describeTemplatesOut, error) {
	var all []localcloud.LaunchTemplate
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) (err error) {
		all, err = t.FindLaunchTemplates(in.IDs, in.Names)
		return err
	})
	if err != nil {
		return nil, err
	}
	if all, err = templateFilters.Match(in.Filters, all, func(l localcloud.LaunchTemplate) localcloud.Tags { return l.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 200)
	if err != nil {
		return nil, err
	}
	return &describeTemplatesOut{Templates: ec2wire.Mapped(page, toTemplate), Next: next}, in.Check()
}

var templateVersionFilters = ec2wire.FilterBy[numbered]{
	"create-time":          func(n numbered) []string { return ec2wire.One(awswire.Time(n.Created)) },
	"ebs-optimized":        func(n numbered) []string { return flag(n.Spec.EBSOptimized) },
	"iam-instance-profile": func(n numbered) []string { return ec2wire.One(n.Spec.ProfileARN) },
	"image-id":             func(n numbered) []string { return ec2wire.One(n.Spec.ImageID) },
	"instance-type":        func(n numbered) []string { return ec2wire.One(n.Spec.Type) },
	"is-default-version":   func(n numbered) []string { return ec2wire.Bool(n.Number == n.template.Default) },
	"kernel-id":            func(n numbered) []string { return ec2wire.One(n.Spec.KernelID) },
	"ram-disk-id":          func(n numbered) []string { return ec2wire.One(n.Spec.RamdiskID) },
	"http-endpoint": func(n numbered) []string {
		return metadata(n, func(m localcloud.MetadataOptions) string { return m.Endpoint })
	},
	"http-tokens": func(n numbered) []string {
		return metadata(n, func(m localcloud.MetadataOptions) string { return m.Tokens })
	},
	"license-configuration-arn": func(n numbered) []string { return n.Spec.Licenses },
	"host-resource-group-arn": func(n numbered) []string {
		if n.Spec.Placement == nil {
			return nil
		}
		return ec2wire.One(n.Spec.Placement.HostResourceGroup)
	},
}

func flag(b *bool) []string {
	if b == nil {
		return nil
	}
	return ec2wire.Bool(*b)
}

func metadata(n numbered, get func(localcloud.MetadataOptions) string) []string {
	if n.Spec.Metadata == nil {
		return nil
	}
	return ec2wire.One(get(*n.Spec.Metadata))
}

type describeTemplateVersionsIn struct {
	templateIn
	ec2wire.Page
	Versions []string        `q:"LaunchTemplateVersion"`
	Min      string          `q:"MinVersion"`
	Max      string          `q:"MaxVersion"`
	Filters  ec2wire.Filters `q:"Filter"`
}

type describeTemplateVersionsOut struct {
	Versions []templateVersion `xml:"launchTemplateVersionSet>item"`
	Next     string            `xml:"nextToken,omitempty"`
}

func (a *api) describeTemplateVersions(ctx context.Context, c *awswire.Call, in *describeTemplateVersionsIn) (*describeTemplateVersionsOut, error) {
	least, most, err := in.bounds()
	if err != nil {
		return nil, err
	}
	var all []numbered
	err = a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) (err error) {
		all, err = in.find(t)
		return err
	})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n numbered) bool { return n.Number < least || most > 0 && n.Number > most })
	if all, err = templateVersionFilters.Match(in.Filters, all, noTags[numbered]); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 200)
	if err != nil {
		return nil, err
	}
	return &describeTemplateVersionsOut{Versions: ec2wire.Mapped(page, numbered.reply), Next: next}, in.Check()
}

// bounds are the first and the last version that are wanted, 0 for none.
func (in *describeTemplateVersionsIn) bounds() (least, most int64, err error) {
	for _, b := range []struct {
		name, text string
		to         *int64
	}{{"MinVersion", in.Min, &least}, {"MaxVersion", in.Max, &most}} {
		if b.text == "" {
			continue
		}
		if *b.to, err = strconv.ParseInt(b.text, 10, 64); err != nil {
			return 0, 0, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be a number", b.text, b.name)
		}
		if len(in.Versions) > 0 {
			return 0, 0, awswire.Errorf("InvalidParameterCombination", "The parameter %s cannot be used together with version numbers", b.name)
		}
	}
	return least, most, nil
}

// find returns the versions of one template, or the latest or default ones of
// every template.
func (in *describeTemplateVersionsIn) find(t *localcloud.Tx) ([]numbered, error) {
	if in.ID != "" || in.Name != "" {
		return versionsOf(t, localcloud.LaunchTemplateChoice{ID: in.ID, Name: in.Name}, in.Versions)
	}
	if len(in.Versions) == 0 || slices.ContainsFunc(in.Versions, func(v string) bool { return v != "$Latest" && v != "$Default" }) {
		return nil, awswire.Errorf("MissingParameter", "The request must contain launchTemplateId or launchTemplateName, or only the versions $Latest and $Default")
	}
	all, err := t.FindLaunchTemplates(nil, nil)
	if err != nil {
		return nil, err
	}
	var out []numbered
	for _, l := range all {
		vs, err := versionsOf(t, localcloud.LaunchTemplateChoice{ID: l.ID}, in.Versions)
		if err != nil {
			return nil, err
		}
		out = append(out, vs...)
	}
	return out, nil
}

func versionsOf(t *localcloud.Tx, ch localcloud.LaunchTemplateChoice, versions []string) ([]numbered, error) {
	l, _, err := t.LaunchTemplateOf(ch)
	if err != nil {
		return nil, err
	}
	var out []numbered
	if len(versions) == 0 {
		all, err := t.LaunchTemplateVersions(l.ID)
		return ec2wire.Mapped(all, func(v localcloud.LaunchTemplateVersion) numbered { return numbered{v, l} }), err
	}
	for _, version := range versions {
		ch.Version = version
		_, v, err := t.LaunchTemplateOf(ch)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(n numbered) bool { return n.Number == v.Number }) {
			out = append(out, numbered{v, l})
		}
	}
	return out, nil
}

type modifyTemplateIn struct {
	templateIn
	Default string `q:"SetDefaultVersion"`
	Token   string `q:"ClientToken"` // doing it twice is doing it once
}

func (a *api) modifyTemplate(ctx context.Context, c *awswire.Call, in *modifyTemplateIn) (*templateOut, error) {
	l, err := a.cloud.ModifyLaunchTemplate(dry(ctx, in.DryRun), c.Region, in.ID, in.Name, in.Default)
	if err != nil {
		return nil, err
	}
	return &templateOut{toTemplate(l)}, nil
}

func (a *api) deleteTemplate(ctx context.Context, c *awswire.Call, in *templateIn) (*templateOut, error) {
	l, err := a.cloud.DeleteLaunchTemplate(dry(ctx, in.DryRun), c.Region, in.ID, in.Name)
	if err != nil {
		return nil, err
	}
	return &templateOut{toTemplate(l)}, nil
}

type deleteTemplateVersionsIn struct {
	templateIn
	Versions []string `q:"LaunchTemplateVersion,required"`
}

type versionItem struct {
	ID     string        `xml:"launchTemplateId"`
	Name   string        `xml:"launchTemplateName"`
	Number int64         `xml:"versionNumber"`
	Error  *versionError `xml:"responseError"`
}

type versionError struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type deleteTemplateVersionsOut struct {
	Done   []versionItem `xml:"successfullyDeletedLaunchTemplateVersionSet>item"`
	Failed []versionItem `xml:"unsuccessfullyDeletedLaunchTemplateVersionSet>item"`
}

func (a *api) deleteTemplateVersions(ctx context.Context, c *awswire.Call, in *deleteTemplateVersionsIn) (*deleteTemplateVersionsOut, error) {
	l, removals, err := a.cloud.DeleteLaunchTemplateVersions(dry(ctx, in.DryRun), c.Region, in.ID, in.Name, in.Versions)
	if err != nil {
		return nil, err
	}
	out := &deleteTemplateVersionsOut{}
	for _, r := range removals {
		item := versionItem{ID: l.ID, Name: l.Name, Number: r.Number}
		if r.Code == "" {
			out.Done = append(out.Done, item)
			continue
		}
		item.Error = &versionError{Code: r.Code, Message: r.Message}
		out.Failed = append(out.Failed, item)
	}
	return out, nil
}

type templateDataOfIn struct {
	ec2wire.DryRun
	Instance string `q:"InstanceId,required"`
}

type templateDataOfOut struct {
	Data templateData `xml:"launchTemplateData"`
}

func (a *api) templateDataOf(ctx context.Context, c *awswire.Call, in *templateDataOfIn) (*templateDataOfOut, error) {
	var s localcloud.LaunchSpec
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) (err error) {
		s, err = t.SpecOf(in.Instance)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &templateDataOfOut{toTemplateData(s)}, in.Check()
}
