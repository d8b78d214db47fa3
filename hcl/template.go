package hcl

import (
	"context"
	"errors"
	"io"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/hcl/secretstore"
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

	// Stdin is what the path "-" stands for; nil: it cannot be given. One
	// that can seek is read from its beginning, so that a template can be
	// loaded twice.
	Stdin io.Reader
	// ForceHCL says that a template is HCL whatever its file is named.
	ForceHCL bool
	// Parse, when not nil, reads the file of the template in another syntax.
	// Builds of such a template have the plain names of their sources.
	Parse func(name string, text []byte) (hcl2.Body, hcl2.Diagnostics)

	WarnUndeclared bool // warn about values for undeclared variables in variable files
	SyntaxOnly     bool // parse and schema only: variables may be unset, references are not followed

	// ExtraBlocks are further top-level block types with their label names;
	// BuildBlocks those inside build. They are kept in Template.Extra and
	// Build.Extra. In *.ingot.hcl files every block type is allowed.
	ExtraBlocks, BuildBlocks map[string][]string
	// Functions are further functions, by name.
	Functions map[string]function.Function

	// SecretsManager returns the text of a secret of AWS Secrets Manager; nil
	// when it cannot be asked.
	SecretsManager func(ctx context.Context, name string) (string, error)

	// Data reads a data source; its block is decoded in s. nil: results are
	// unknown values of the type OutputType tells.
	Data func(ctx context.Context, b *Block, s Scope) (cty.Value, diag.List)
	// OutputType is the type of the results of a data source type;
	// cty.DynamicPseudoType (or a nil func) when it is not known.
	OutputType func(dataType string) cty.Type
}

// ReadStdin returns all of Stdin.
func (in *Inputs) ReadStdin() ([]byte, error) {
	if in.Stdin == nil {
		return nil, errors.New("the template cannot be read from the standard input here: give its path")
	}
	if s, ok := in.Stdin.(io.Seeker); ok {
		_, _ = s.Seek(0, io.SeekStart) // a pipe cannot
	}
	return io.ReadAll(in.Stdin)
}

// Stores are the secret stores that the template's functions ask.
func (in *Inputs) Stores() secretstore.Stores {
	e := funcEnv{env: in.Env}
	return secretstore.Stores{Getenv: e.getenv, SecretsManager: in.SecretsManager}
}

// Texts are what the {{ }} of options can name everywhere in t: the time, the
// version, and in a JSON template its variables and folder.
func (t *Template) Texts() interpolate.Context {
	c := interpolate.Context{Start: t.in.Now, Cwd: t.in.Cwd, Version: t.in.Version}
	if !t.Legacy {
		return c
	}
	if t.in.Path != stdin {
		c.TemplateDir = t.in.abs(t.Root)
	}
	c.User = map[string]string{}
	for _, v := range t.Variables {
		if x := Unmark(v.Value); x.IsKnown() && !x.IsNull() && x.Type() == cty.String {
			c.User[v.Name] = x.AsString()
		}
	}
	return c
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
	Outputs          []*Output
	Registry         *Registry // the top-level hcp_packer_registry block
	Extra            []*Block

	// Legacy says that the template is in Packer's old JSON syntax.
	Legacy bool

	// Broken says that a file did not parse: what was lost with it may be the
	// reason for anything a caller finds wrong.
	Broken bool

	in    Inputs
	index index
	names *names
	scope Scope
	order map[string]int // of files, for sorting findings

	total  int      // sources of all builds
	parsed []source // for rawBody
	raw    map[hcl2.Range]hcl2.Body
}

// index finds declarations by name.
type index struct {
	vars          map[string]*Variable
	locals        map[string]*Local
	data, sources map[string]*Block // by "type.name"; a source with its key
	families      map[string]*family
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

// A Build is one build block, or one instance of a repeated one.
type Build struct {
	Name, Description string // the name ends with the key
	Family            string // the name without the key
	Key               Key
	DependsOn         []Reference
	Sources           []*BuildSource
	Provisioners      []*Provisioner
	ErrorCleanup      *Provisioner
	PostProcessors    [][]*PostProcessor // chains
	Registry          *Registry
	Extra             []*Block
	Timeout           time.Duration // of each build, Ingot's own; 0: none
	Range             diag.Range

	dependsOn *hcl2.Attribute
}

// A BuildSource is a source as one build uses it.
type BuildSource struct {
	Type, Name string     // of the source block, with the key of a repeated one
	Key        Key        // of the source block
	LocalName  string     // the name option in the build, else Name
	Body       *Block     // top-level options and those added in the build
	Range      diag.Range // where the build refers to it
	Plain      bool       // of a JSON template in the old syntax: the local name is the whole name

	local string // the local name without the key
	block *Block // at the top level
}

// SimpleName is the local name in a form that is fit for file names: with the
// key of a repeated source behind a dash. It is what the machine is told.
func (s *BuildSource) SimpleName() string {
	if s.Key.IsZero() {
		return s.LocalName
	}
	return s.local + "-" + s.Key.plain()
}

// Base is the source that this one extends, "type.name", or "".
func (s *BuildSource) Base() string {
	if s.block == nil {
		return ""
	}
	return s.block.Base
}

// familyRef is Ref without the key.
func (s *BuildSource) familyRef() string { return s.Type + "." + s.local }

// Ref is the name that only and except compare with: "type.local name".
func (s *BuildSource) Ref() string {
	if s.Plain {
		return s.LocalName
	}
	return s.Type + "." + s.LocalName
}

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
		return !s.named(o.Only)
	}
	return s.named(o.Except)
}

// named reports whether list has s, or all instances of its block.
func (s *BuildSource) named(list []string) bool {
	return contains(list, s.Ref()) || !s.Key.IsZero() && contains(list, s.familyRef())
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
	v, ok := p.Override[s.LocalName]
	if !ok {
		v, ok = p.Override[s.local]
	}
	if ok {
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
