package hcl

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// large is a template with n variables, locals and sources and a build that
// uses them all.
func large(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `
variable "v%[1]d" {
  type    = string
  default = "value %[1]d"
  validation {
    condition     = length(var.v%[1]d) > 3
    error_message = "Too short."
  }
}
locals {
  l%[1]d = "${var.v%[1]d}-${local.l%[2]d}x"
}
source "null" "s%[1]d" {
  text   = local.l%[1]d
  num    = %[1]d
  inline = [for i in [1, 2, 3] : "${var.v%[1]d}-${i}"]
  tags   = { name = upper(var.v%[1]d) }
  dynamic "disk" {
    for_each = [1, 2]
    content { size = disk.value }
  }
}
build {
  name    = "b%[1]d"
  sources = ["null.s%[1]d"]
  provisioner "shell" {
    inline = ["echo ${build.ID} ${var.v%[1]d}"]
    only   = ["null.s%[1]d"]
  }
  post-processor "manifest" {}
}
`, i, max(i-1, 0))
	}
	return b.String()
}

func BenchmarkValidate(b *testing.B) {
	for _, n := range []int{10, 100, 400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			// Chains of two: a long chain would make long texts.
			text := large(n)
			for i := 0; i < n; i += 2 {
				text = strings.ReplaceAll(text, fmt.Sprintf("l%d = \"${var.v%d}-${local.l%d}x\"", i, i, max(i-1, 0)), fmt.Sprintf("l%d = \"${var.v%d}\"", i, i))
			}
			in := Inputs{}
			b.ReportAllocs()
			for b.Loop() {
				tmpl, l := load(b, in, map[string]string{"a.pkr.hcl": text})
				if l.HasErrors() {
					b.Fatal(l.Err())
				}
				for _, build := range tmpl.Builds {
					for _, s := range build.Sources {
						if _, l := s.Body.Check(tmpl.Scope(), &component{}); len(l) > 0 {
							b.Fatal(l.Err())
						}
					}
					for _, p := range build.Provisioners {
						if _, l := p.Block.Check(tmpl.Scope().With("build", cty.DynamicVal), &component{}); len(l) > 0 {
							b.Fatal(l.Err())
						}
					}
				}
			}
		})
	}
}
