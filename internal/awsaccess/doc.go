// Package awsaccess is the one way to AWS: the options that say who calls and
// where, the sessions made of them, and what an answer means.
//
// Everything that talks to AWS embeds a [Config] in its options and opens a
// [Session]. A [Locator] sends all of it to a local cloud instead.
package awsaccess
