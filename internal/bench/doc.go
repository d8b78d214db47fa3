// Package bench measures the whole program: `make bench` prints its figures as
// ratios against a plain run of the same parts. It has no code of its own.
package bench
