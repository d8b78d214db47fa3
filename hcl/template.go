package hcl

import (
	"context"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// Inputs is everything from outside that decides what a template means.
type Inputs struct {
	Path     string      // template file or folder, as the user gave it
	VarFiles []string    // -var-file, in order
	Vars     []string    // -var "name=value", in order
	Env      []string    // "NAME=value"; PKR_VAR_name and env() are read from here only
	Cwd      string      // absolute working directory; relative paths begin here
	Version  string      // for packer.version and required_version
	Now      time.Time   // start of the process, for the legacy_ time functions
	Secrets  *secret.Set // sensitive texts are added; may be nil

	WarnUndeclared bool // warn about values for undeclared variables in variable files
	SyntaxOnly     bool // parse and schema only: variables may be unset, references are not followed

	// ExtraBlocks are further top-level block types with their label names;
	// BuildBlocks those inside build. They are kept in Template.Extra and
	// Build.Extra. In *.ingot.hcl files every block type is allowed.
	ExtraBlocks, BuildBlocks map[string][]string
	// Functions are further functions, by name.
	Functions map[string]function.Function

	// Data reads a data source; its block is decoded in s. nil: results are
	// unknown values of the type OutputType tells.
	Data func(ctx context.Context, b *Block, s Scope) (cty.Value, diag.List)
	// OutputType is the type of the results of a data source type;
	// cty.DynamicPseudoType (or a nil func) when it is not known.
	OutputType func(dataType string) cty.Type
}

// A Template is what the files say.
type Template struct {
	Files     map[string][]byte // contents by name, for excerpts
	FileNames []string          // the template's files in reading order, without variable files
	Root      string            // path.root: the folder of the template, as given

	RequiredVersions []RequiredVersion
	RequiredPlugins  []RequiredPlugin
	Variables        []*Variable // in the order of declaration, as all lists here
	Locals           []*Local
	Data             []*Block
	Sources          []*Block
	Builds           []*Build
	Registry         *Registry // the top-level hcp_packer_registry block
	Extra            []*Block

	// Broken says that a file did not parse: what was lost with it may be the
	// reason for anything a caller finds wrong.
	Broken bool

	in    Inputs
	index index
	names *names
	scope Scope
	order map[string]int // of files, for sorting findings
}

// index finds declarations by name.
type index struct {
	vars          map[string]*Variable
	locals        map[string]*Local
	data, sources map[string]*Block // by "type.name"
}

// Scope returns the names a component's options can refer to everywhere: var,
// local, data, path, packer and the functions.
func (t *Template) Scope() Scope { return t.scope }

// A Variable is a declared input.
type Variable struct {
	Name, Description string
	Type              cty.Type  // cty.DynamicPseudoType when anything goes
	Default           cty.Value // cty.NilVal when there is none
	Value             cty.Value // unknown when unset or faulty; marked when sensitive
	Sensitive         bool
	Set               bool       // it has a value, the default included
	Origin            string     // where the value came from: "default", "environment", "-var", or a file's name
	Range             diag.Range // of the declaration

	spec  typeSpec
	rules []validation
	where *hcl2.Range // of the value, when it stands in a file
	bad   bool        // already reported
}

// A Local is a named expression.
type Local struct {
	Name      string
	Value     cty.Value // unknown when it depends on what is not known or on a fault
	Sensitive bool      // declared so
	Range     diag.Range

	expr hcl2.Expression
}

// A Build is one build block.
type Build struct {
	Name, Description string
	Sources           []*BuildSource
	Provisioners      []*Provisioner
	ErrorCleanup      *Provisioner
	PostProcessors    [][]*PostProcessor // chains
	Registry          *Registry
	Extra             []*Block
	Range             diag.Range
}

// A BuildSource is a source as one build uses it.
type BuildSource struct {
	Type, Name string     // of the source block
	LocalName  string     // the name option in the build, else Name
	Body       *Block     // top-level options and those added in the build
	Range      diag.Range // where the build refers to it
}

// Ref is the name that only and except compare with: "type.local name".
func (s *BuildSource) Ref() string { return s.Type + "." + s.LocalName }

// FullName is "build.type.name", without the first part for an unnamed build.
func FullName(b *Build, s *BuildSource) string {
	if b.Name == "" {
		return s.Ref()
	}
	return b.Name + "." + s.Ref()
}

// OnlyExcept limits a step to some sources of a build.
type OnlyExcept struct{ Only, Except []string }

// Skips reports whether the step is left out for source s.
func (o OnlyExcept) Skips(s *BuildSource) bool {
	if len(o.Only) > 0 {
		return !contains(o.Only, s.Ref())
	}
	return contains(o.Except, s.Ref())
}

// A Provisioner is one step inside the guest.
type Provisioner struct {
	Type, Name string
	OnlyExcept
	PauseBefore, Timeout time.Duration
	MaxRetries           int
	ContinueOnError      bool
	Override             map[string]cty.Value // options by local name of the source
	Block                *Block
	Range                diag.Range

	overAt hcl2.Range
}

// BlockFor returns the body for source s, its override applied.
func (p *Provisioner) BlockFor(s *BuildSource) *Block {
	if v, ok := p.Override[s.LocalName]; ok {
		return p.Block.WithOverride(v, toRange(p.overAt))
	}
	return p.Block
}

// A PostProcessor is one step of a chain after the build.
type PostProcessor struct {
	Type, Name string
	OnlyExcept
	KeepInput *bool // nil: as the post-processor likes
	Block     *Block
	Range     diag.Range
}

// A Registry is an hcp_packer_registry block.
type Registry struct {
	BucketName, Description   string
	BucketLabels, BuildLabels map[string]string
	Channels                  []string
	Range                     diag.Range
}

// A RequiredVersion is a constraint on the version of the program.
type RequiredVersion struct {
	Constraint string
	Range      diag.Range
}

// A RequiredPlugin is one entry of required_plugins.
type RequiredPlugin struct {
	Name, Source, Version string
	Range                 diag.Range
}
