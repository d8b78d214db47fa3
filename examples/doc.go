// Package examples holds templates that run as they are; its tests validate
// each and bake one.
package examples
