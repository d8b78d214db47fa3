package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/ingot-build/ingot/internal/diag"
)

// FormatFile returns src in the canonical layout. A file that does not parse
// is returned as it is, with the reasons.
func FormatFile(src []byte, filename string) ([]byte, diag.List) {
	if _, hd := hclsyntax.ParseConfig(src, filename, hcl2.InitialPos); hd.HasErrors() {
		var n *names
		return src, n.convertDiags(hd)
	}
	return hclwrite.Format(src), nil
}
