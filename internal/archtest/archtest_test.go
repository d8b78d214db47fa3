// Package archtest fails when an import points the wrong way. It parses the
// sources instead of asking the go command, whose answer the test cache would
// keep when only another package changed.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/ingot-build/ingot"

// A rule holds for every package that matches pkg. A pattern is a path from
// the module's root; a last element "*" matches one more element, "..." any
// number including none. Tests are not bound by it.
type rule struct {
	pkg   string
	only  []string // of ours, nothing else may be imported; nil: not limited
	never []string // of ours or others
}

var low = []string{
	"internal/artifact", "internal/event", "internal/diag", "internal/secret", "internal/atomicfile", "internal/poll",
}

var contracts = []string{"builder", "provisioner", "postprocessor"}

var sdks = []string{"github.com/aws/...", "github.com/aliyun/...", "github.com/alibabacloud-go/...", "github.com/tencentcloud/..."}

func join(lists ...[]string) (out []string) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

var rules = []rule{
	{pkg: "internal/artifact", only: []string{}},
	{pkg: "internal/event", only: []string{"internal/artifact"}},
	{pkg: "internal/diag", only: []string{}},
	{pkg: "internal/secret", only: []string{}},
	{pkg: "internal/atomicfile", only: []string{}},
	{pkg: "internal/poll", only: []string{}},
	{pkg: "internal/journal/...", only: join(low, []string{"internal/journal/..."})},
	{pkg: "internal/checkpoint/...", only: join(low, []string{"internal/checkpoint/..."})},
	{pkg: "internal/communicator/...", only: join(low, []string{"internal/communicator/..."})},
	{pkg: "internal/vm/...", only: join(low, []string{"internal/vm/..."})},
	{pkg: "internal/imagestore/...", only: join(low, []string{"internal/imagestore/..."}), never: sdks},
	{pkg: "internal/download", only: low},
	{pkg: "internal/distribute", only: []string{"internal/poll"}},
	{pkg: "internal/localshell/...", only: join(low, []string{"internal/communicator", "internal/localshell/..."})},
	{pkg: "internal/awsaccess", only: low},
	{pkg: "internal/ebsdirect", only: join(low, []string{"internal/awsaccess"})},
	{pkg: "internal/winscript", only: join(low, []string{"internal/checkpoint", "internal/communicator/...", "internal/localshell/script"})},
	{pkg: "internal/datasource/...", only: join(low, []string{"internal/awsaccess", "internal/datasource"})},
	{
		pkg:   "builder",
		only:  join(low, []string{"internal/checkpoint", "internal/communicator", "internal/journal"}),
		never: sdks,
	},
	{pkg: "builder/...", never: []string{"hcl/...", "internal/pipeline", "internal/localcloud/...", "internal/ui", "internal/cli", "provisioner/...", "postprocessor/..."}},
	{pkg: "provisioner", only: join(low, []string{"internal/checkpoint", "internal/communicator"})},
	{pkg: "provisioner/...", never: []string{"builder/...", "hcl/...", "postprocessor/...", "internal/pipeline", "internal/ui", "internal/cli", "internal/vm/..."}},
	{pkg: "postprocessor", only: low},
	{pkg: "postprocessor/...", never: []string{"builder/...", "provisioner/...", "hcl/...", "internal/pipeline", "internal/ui", "internal/cli"}},
	{pkg: "hcl/...", only: []string{"hcl/...", "internal/diag", "internal/secret"}},
	{
		pkg:  "internal/pipeline",
		only: join(low, contracts, []string{"internal/checkpoint", "internal/communicator", "internal/distribute", "internal/journal"}),
	},
	{
		pkg:  "internal/compile",
		only: join(low, contracts, []string{"hcl/...", "internal/communicator", "internal/component", "internal/datasource", "internal/pipeline"}),
	},
	{pkg: "internal/component", only: join(contracts, []string{"internal/datasource", "internal/secret"})},
	{pkg: "internal/builtin", never: []string{"internal/pipeline", "internal/cli", "hcl/...", "internal/compile"}},
	{pkg: "internal/ui/...", only: []string{"internal/artifact", "internal/event", "internal/diag", "internal/ui/..."}},
	{pkg: "internal/cli", never: []string{"builder/*", "provisioner/*", "postprocessor/*", "internal/builtin", "internal/vm/..."}},
	{pkg: "cmd/ingot", only: []string{"internal/cli", "internal/builtin"}},
}

// siblings never import each other: a builder knows one platform.
var siblings = []string{"builder", "provisioner", "postprocessor"}

func match(pattern, pkg string) bool {
	if stem, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == stem || strings.HasPrefix(pkg, stem+"/")
	}
	ok, _ := path.Match(pattern, pkg) // the patterns above are well formed
	return ok
}

func matchAny(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if match(p, pkg) {
			return true
		}
	}
	return false
}

// imports returns, for each package, the import paths of its files that are
// not tests, ours without the module's name.
func imports(t *testing.T) map[string]map[string]string {
	t.Helper()
	const root = "../.."
	out := map[string]map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if out[pkg] == nil {
			out[pkg] = map[string]string{}
		}
		for _, i := range f.Imports {
			ip, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			name := ""
			if i.Name != nil {
				name = i.Name.Name
			}
			out[pkg][ip] = name
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImports(t *testing.T) {
	all := imports(t)
	for _, r := range rules {
		hit := false
		for pkg, imps := range all {
			if !match(r.pkg, pkg) {
				continue
			}
			hit = true
			for ip := range imps {
				ours, isOurs := strings.CutPrefix(ip, module+"/")
				if isOurs && r.only != nil && !matchAny(r.only, ours) {
					t.Errorf("%s imports %s: it may import only %v", pkg, ours, r.only)
				}
				if matchAny(r.never, ours) {
					t.Errorf("%s imports %s: never", pkg, ours)
				}
			}
		}
		if !hit {
			t.Errorf("rule for %s matches no package", r.pkg)
		}
	}
	for pkg, imps := range all {
		for _, s := range siblings {
			me, ok := strings.CutPrefix(pkg, s+"/")
			if !ok {
				continue
			}
			me, _, _ = strings.Cut(me, "/")
			for ip := range imps {
				other, ok := strings.CutPrefix(ip, module+"/"+s+"/")
				if first, _, _ := strings.Cut(other, "/"); ok && first != me {
					t.Errorf("%s imports its sibling %s", pkg, ip)
				}
			}
		}
		if name, ok := imps["github.com/hashicorp/hcl/v2"]; ok && name != "hcl2" {
			t.Errorf("%s imports github.com/hashicorp/hcl/v2 as %q: it is hcl2 everywhere, hcl is ours", pkg, name)
		}
	}
}

func TestNames(t *testing.T) {
	for pkg := range imports(t) {
		switch path.Base(pkg) {
		case "util", "utils", "common", "helper", "helpers", "manager", "base":
			t.Errorf("package %s: the name says nothing", pkg)
		}
	}
}
