package hcl

import (
	"context"
	"time"

	"github.com/hashicorp/go-cty-funcs/cidr"
	"github.com/hashicorp/go-cty-funcs/collection"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/uuid"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/ingot-build/ingot/hcl/secretstore"
)

// funcEnv is what functions know of the world.
type funcEnv struct {
	ctx    context.Context //nolint:containedctx // functions of the library take none
	stores secretstore.Stores
	root   string // absolute folder of the template
	cwd    string
	now    time.Time
	env    []string
	extra  map[string]function.Function
}

// functions returns the functions of the language.
func functions(e funcEnv) map[string]function.Function {
	f := map[string]function.Function{
		// numbers
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc,
		"signum": stdlib.SignumFunc, "sum": sumFunc(),
		// texts
		"chomp": stdlib.ChompFunc, "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc,
		"indent": stdlib.IndentFunc, "join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "upper": stdlib.UpperFunc,
		"title": stdlib.TitleFunc, "trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc,
		"trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc, "replace": stdlib.ReplaceFunc,
		"regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc, "regex_replace": stdlib.RegexReplaceFunc,
		"split": stdlib.SplitFunc, "strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc,
		"startswith": prefixFunc(), "endswith": suffixFunc(), "strcontains": containsFunc(),
		// collections
		"alltrue": allTrueFunc(), "anytrue": anyTrueFunc(), "chunklist": stdlib.ChunklistFunc,
		"coalesce": collection.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc, "compact": stdlib.CompactFunc,
		"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc,
		"element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "index": indexFunc(), "keys": stdlib.KeysFunc,
		"length": lengthFunc(), "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc,
		"setproduct": stdlib.SetProductFunc, "setunion": stdlib.SetUnionFunc, "slice": stdlib.SliceFunc,
		"sort": stdlib.SortFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
		// encodings
		"base64decode": encoding.Base64DecodeFunc, "base64encode": encoding.Base64EncodeFunc, "base64gzip": base64GzipFunc(),
		"csvdecode": stdlib.CSVDecodeFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,
		"textdecodebase64": textDecodeFunc(), "textencodebase64": textEncodeFunc(), "urlencode": encoding.URLEncodeFunc,
		"yamldecode": ctyyaml.YAMLDecodeFunc, "yamlencode": ctyyaml.YAMLEncodeFunc,
		// time
		"formatdate": stdlib.FormatDateFunc, "timeadd": stdlib.TimeAddFunc, "timestamp": timestampFunc(),
		"legacy_isotime": isotimeFunc(e.now), "legacy_strftime": strftimeFunc(e.now),
		"rfc3339_parse": rfc3339Func(), "unix_timestamp_parse": unixFunc(),
		// hashes and identifiers
		"bcrypt": crypto.BcryptFunc, "md5": crypto.Md5Func, "sha1": crypto.Sha1Func, "sha256": crypto.Sha256Func,
		"sha512": crypto.Sha512Func, "rsadecrypt": crypto.RsaDecryptFunc, "uuidv4": uuid.V4Func, "uuidv5": uuid.V5Func,
		// networks
		"cidrhost": cidr.HostFunc, "cidrnetmask": cidr.NetmaskFunc, "cidrsubnet": cidr.SubnetFunc, "cidrsubnets": cidr.SubnetsFunc,
		// types
		"can": tryfunc.CanFunc, "convert": typeexpr.ConvertFunc, "try": tryfunc.TryFunc,
		// files: relative to the template's folder, filebase64 to the working directory
		"abspath": e.abspathFunc(), "basename": basenameFunc(), "dirname": dirnameFunc(), "pathexpand": e.pathexpandFunc(),
		"file": e.fileFunc(), "filebase64": e.fileBase64Func(), "fileexists": e.fileExistsFunc(), "fileset": e.fileSetFunc(),
		// secrets
		"vault": e.vaultFunc(), "consul_key": e.consulFunc(),
		"aws_secretsmanager": e.secretsManagerFunc(), "aws_secretsmanager_raw": e.secretsManagerRawFunc(),
	}
	for name, fn := range e.extra {
		f[name] = fn
	}
	inner := make(map[string]function.Function, len(f))
	for name, fn := range f {
		inner[name] = fn
	}
	f["templatefile"] = e.templateFileFunc(inner)
	return f
}

// defaultContext is the scope of a variable's default: env() alone.
func (t *Template) defaultContext() *hcl2.EvalContext {
	e := funcEnv{env: t.in.Env}
	return &hcl2.EvalContext{Functions: map[string]function.Function{"env": textFunc("name", func(name string) (string, error) {
		return e.getenv(name), nil
	})}}
}

// textFunc is a function from one text to another.
func textFunc(param string, f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: param, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			if err != nil {
				return cty.UnknownVal(cty.String), function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}
