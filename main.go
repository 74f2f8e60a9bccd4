// Quorumhub is a W3C WebSub hub in one binary.
package main

import (
	"os"

	"quorumhub/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
