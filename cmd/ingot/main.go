// Command ingot turns templates into machine images.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ingot-build/ingot/internal/builtin"
	"github.com/ingot-build/ingot/internal/cli"
)

// version is set with -ldflags "-X main.version=…".
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	ctx, later, stop := cli.Signals(context.Background())
	defer stop()
	streams, err := cli.StreamsOf(os.Stdin, os.Stdout, os.Stderr, os.Environ(), version)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingot:", err)
		return 1
	}
	streams.Interrupts = later
	return cli.Main(ctx, streams, builtin.All, os.Args[1:])
}
