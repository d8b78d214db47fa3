// Package hcl is the template language: Packer-compatible HCL2 templates,
// read, evaluated and kept as typed data.
//
// [Load] reads the files of a template, settles the variables, evaluates
// locals and data sources in dependency order and finds the sources and
// builds. Bodies of components stay unevaluated in a [Block] until their
// [Scope] is known: [Block.Check] looks at one while values are still unknown,
// [Block.Decode] fills a tagged struct when all of them are there.
//
// A mistake in a template is a diagnostic with a place; a mistake in our own
// struct tags is a panic. Values may be unknown (read from the world later)
// and sensitive (marked, see [MarkSensitive]); both flow through every
// expression.
//
// Texts of options may hold the older language in {{ }}: package interpolate,
// with the values of [Scope.WithTexts]. Package legacyjson reads Packer's old
// JSON templates into the same [Template].
//
// The package touches no platform and keeps no global state. Working
// directory, environment, clock and version come in with [Inputs].
package hcl
