// Package ssmapi speaks the protocol of Systems Manager, as far as its
// parameter store goes.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/
package ssmapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// Handler serves authenticated calls.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	a := api{c}
	return awswire.JSONHandler(awswire.Operations{
		"GetParameter":        awswire.JSONOp(a.get),
		"GetParameters":       awswire.JSONOp(a.getSeveral),
		"GetParametersByPath": awswire.JSONOp(a.byPath),
		"DescribeParameters":  awswire.JSONOp(a.describe),
		"PutParameter":        awswire.JSONOp(a.put),
		"DeleteParameter":     awswire.JSONOp(a.delete),
		"DeleteParameters":    awswire.JSONOp(a.deleteSeveral),
	}, localcloud.Refusal)
}

type api struct{ cloud *localcloud.Cloud }

type parameter struct {
	ARN              string
	DataType         string
	LastModifiedDate float64 // seconds
	Name             string
	Type             string
	Value            string
	Version          int64
	Selector         string `json:",omitempty"`
}

func show(region string, p localcloud.Parameter, decrypt bool) parameter {
	v := p.Value
	if p.Type == "SecureString" && !decrypt {
		v = "AQICAHencrypted" // not the value
	}
	return parameter{
		ARN: arn(region, p.Name), DataType: p.DataType, LastModifiedDate: float64(p.Modified.UnixMilli()) / 1000,
		Name: p.Name, Type: p.Type, Value: v, Version: p.Version,
	}
}

func arn(region, name string) string {
	return fmt.Sprintf("arn:aws:ssm:%s:%s:parameter/%s", region, localcloud.AccountID, strings.TrimPrefix(name, "/"))
}

type getInput struct {
	Name           string
	WithDecryption bool
}

type getOutput struct{ Parameter parameter }

func (a api) get(ctx context.Context, c *awswire.Call, in *getInput) (*getOutput, error) {
	if in.Name == "" {
		return nil, awswire.Errorf("ValidationException", "Name is required")
	}
	out := &getOutput{}
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		p, err := find(t, in.Name)
		if err != nil {
			return err
		}
		out.Parameter = show(c.Region, p, in.WithDecryption)
		return nil
	})
	return out, err
}

// find takes a name, an ARN, or either with the version after a colon.
func find(t *localcloud.Tx, asked string) (localcloud.Parameter, error) {
	name, selector := asked, ""
	if rest, ok := strings.CutPrefix(asked, arn(t.Region, "")); ok {
		name = "/" + rest
	}
	if i := strings.LastIndex(name, ":"); i >= 0 && !strings.HasPrefix(name, "arn:") {
		name, selector = name[:i], name[i+1:]
	}
	p, ok, err := localcloud.Get[localcloud.Parameter](t, name)
	if err == nil && !ok && strings.HasPrefix(asked, "arn:") {
		p, ok, err = localcloud.Get[localcloud.Parameter](t, strings.TrimPrefix(name, "/"))
	}
	switch {
	case err != nil:
		return p, err
	case !ok:
		return p, awswire.Errorf("ParameterNotFound", "Parameter %s not found.", asked)
	case selector != "" && selector != strconv.FormatInt(p.Version, 10):
		return p, awswire.Errorf("ParameterVersionNotFound", "Systems Manager could not find version %s of %s: the local cloud keeps the newest, %d.", selector, name, p.Version)
	}
	return p, nil
}

type severalInput struct {
	Names          []string
	WithDecryption bool
}

type severalOutput struct {
	Parameters        []parameter
	InvalidParameters []string
}

func (a api) getSeveral(ctx context.Context, c *awswire.Call, in *severalInput) (*severalOutput, error) {
	if len(in.Names) == 0 || len(in.Names) > 10 {
		return nil, awswire.Errorf("ValidationException", "Names must hold 1 to 10 names")
	}
	out := &severalOutput{Parameters: []parameter{}, InvalidParameters: []string{}}
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		for _, n := range in.Names {
			p, err := find(t, n)
			if err != nil {
				out.InvalidParameters = append(out.InvalidParameters, n)
				continue
			}
			out.Parameters = append(out.Parameters, show(c.Region, p, in.WithDecryption))
		}
		return nil
	})
	return out, err
}

type pathInput struct {
	Path             string
	Recursive        bool
	WithDecryption   bool
	MaxResults       int
	NextToken        string
	ParameterFilters []struct {
		Key, Option string
		Values      []string
	}
}

type pathOutput struct {
	Parameters []parameter
	NextToken  string `json:",omitempty"`
}

func (a api) byPath(ctx context.Context, c *awswire.Call, in *pathInput) (*pathOutput, error) {
	if !strings.HasPrefix(in.Path, "/") {
		return nil, awswire.Errorf("ValidationException", "The parameter path %q must begin with a slash", in.Path)
	}
	if len(in.ParameterFilters) > 0 {
		return nil, awswire.Errorf("InvalidFilterKey", "The local cloud takes no filters with a path")
	}
	prefix := strings.TrimSuffix(in.Path, "/") + "/"
	out := &pathOutput{Parameters: []parameter{}}
	all, err := a.all(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p localcloud.Parameter) bool {
		rest, ok := strings.CutPrefix(p.Name, prefix)
		return !ok || !in.Recursive && strings.Contains(rest, "/")
	})
	page, next, err := slice(all, in.MaxResults, in.NextToken, 10)
	for _, p := range page {
		out.Parameters = append(out.Parameters, show(c.Region, p, in.WithDecryption))
	}
	out.NextToken = next
	return out, err
}

func (a api) all(ctx context.Context, region string) (all []localcloud.Parameter, err error) {
	err = a.cloud.View(ctx, region, func(t *localcloud.Tx) (err error) {
		all, err = localcloud.All[localcloud.Parameter](t)
		return err
	})
	return all, err
}

// slice returns a page of at most most items; tokens are positions.
func slice[T any](all []T, size int, token string, most int) ([]T, string, error) {
	if size <= 0 || size > most {
		size = most
	}
	start := 0
	if token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 {
			return nil, "", awswire.Errorf("InvalidNextToken", "The specified token isn't valid.")
		}
		start = min(n, len(all))
	}
	end := min(start+size, len(all))
	if end == len(all) {
		return all[start:end], "", nil
	}
	return all[start:end], strconv.Itoa(end), nil
}

type describeInput struct {
	MaxResults       int
	NextToken        string
	ParameterFilters []struct {
		Key, Option string
		Values      []string
	}
}

type metadata struct {
	ARN, Name, Type, DataType, Description string
	LastModifiedDate                       float64
	Version                                int64
}

type describeOutput struct {
	Parameters []metadata
	NextToken  string `json:",omitempty"`
}

func (a api) describe(ctx context.Context, c *awswire.Call, in *describeInput) (*describeOutput, error) {
	all, err := a.all(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	for _, f := range in.ParameterFilters {
		if f.Key != "Name" && f.Key != "Type" {
			return nil, awswire.Errorf("InvalidFilterKey", "The filter key %q is not valid", f.Key)
		}
		all = slices.DeleteFunc(all, func(p localcloud.Parameter) bool {
			have := p.Name
			if f.Key == "Type" {
				have = p.Type
			}
			return !slices.ContainsFunc(f.Values, func(v string) bool {
				switch f.Option {
				case "BeginsWith":
					return strings.HasPrefix(have, v)
				case "Contains":
					return strings.Contains(have, v)
				}
				return have == v
			})
		})
	}
	page, next, err := slice(all, in.MaxResults, in.NextToken, 50)
	out := &describeOutput{Parameters: []metadata{}, NextToken: next}
	for _, p := range page {
		s := show(c.Region, p, false)
		out.Parameters = append(out.Parameters, metadata{s.ARN, s.Name, s.Type, s.DataType, p.Description, s.LastModifiedDate, s.Version})
	}
	return out, err
}

type putInput struct {
	Name, Value, Type, Description, KeyId, DataType, Tier, AllowedPattern string
	Overwrite                                                             bool
	Tags                                                                  []struct{ Key, Value string }
}

type putOutput struct {
	Tier    string
	Version int64
}

var parameterName = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,1000}$`)

func (a api) put(ctx context.Context, c *awswire.Call, in *putInput) (*putOutput, error) {
	if !parameterName.MatchString(in.Name) || strings.HasPrefix(strings.ToLower(strings.TrimPrefix(in.Name, "/")), "aws") {
		return nil, awswire.Errorf("ValidationException", "Parameter name: can't be prefixed with \"aws\", and may hold letters, digits and _.-/ only: %q", in.Name)
	}
	if in.Value == "" || len(in.Value) > 8192 {
		return nil, awswire.Errorf("ValidationException", "Value must have 1 to 8192 characters")
	}
	if in.AllowedPattern != "" {
		re, err := regexp.Compile(in.AllowedPattern)
		if err != nil || !re.MatchString(in.Value) {
			return nil, awswire.Errorf("ParameterPatternMismatchException", "Parameter value can't pass the validation of the pattern %q", in.AllowedPattern)
		}
	}
	var version int64
	err := a.cloud.Update(ctx, c.Region, func(t *localcloud.Tx) error {
		p, ok, err := localcloud.Get[localcloud.Parameter](t, in.Name)
		switch {
		case err != nil:
			return err
		case ok && !in.Overwrite:
			return awswire.Errorf("ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
		case in.Type == "" && !ok:
			return awswire.Errorf("ValidationException", "A parameter type is required when you create a parameter.")
		}
		if in.Type != "" {
			p.Type = in.Type
		}
		if !slices.Contains([]string{"String", "StringList", "SecureString"}, p.Type) {
			return awswire.Errorf("UnsupportedParameterType", "The parameter type %q isn't supported", p.Type)
		}
		p.Name, p.Value, p.Description, p.KeyID, p.Modified = in.Name, in.Value, in.Description, in.KeyId, t.Now
		p.DataType = in.DataType
		if p.DataType == "" {
			p.DataType = "text"
		}
		if len(in.Tags) > 0 {
			p.Tags = p.Tags.Clone()
		}
		for _, tag := range in.Tags {
			p.Tags[tag.Key] = tag.Value
		}
		p.Version++
		version = p.Version
		return localcloud.Put(t, p)
	})
	return &putOutput{Tier: "Standard", Version: version}, err
}

type deleteInput struct{ Name string }

func (a api) delete(ctx context.Context, c *awswire.Call, in *deleteInput) (*struct{}, error) {
	return &struct{}{}, a.cloud.Update(ctx, c.Region, func(t *localcloud.Tx) error {
		p, err := find(t, in.Name)
		if err != nil {
			return err
		}
		return localcloud.Delete[localcloud.Parameter](t, p.Name)
	})
}

type deleteSeveralInput struct{ Names []string }

type deleteSeveralOutput struct{ DeletedParameters, InvalidParameters []string }

func (a api) deleteSeveral(ctx context.Context, c *awswire.Call, in *deleteSeveralInput) (*deleteSeveralOutput, error) {
	out := &deleteSeveralOutput{DeletedParameters: []string{}, InvalidParameters: []string{}}
	return out, a.cloud.Update(ctx, c.Region, func(t *localcloud.Tx) error {
		for _, n := range in.Names {
			p, err := find(t, n)
			if err != nil {
				out.InvalidParameters = append(out.InvalidParameters, n)
				continue
			}
			if err := localcloud.Delete[localcloud.Parameter](t, p.Name); err != nil {
				return err
			}
			out.DeletedParameters = append(out.DeletedParameters, n)
		}
		return nil
	})
}
