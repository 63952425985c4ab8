// logql parses its arguments with Loki's LogQL parser: nothing is said of a query that is right.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/loki/v3/pkg/logql/syntax"
)

func main() {
	code := 0
	for _, query := range os.Args[1:] {
		if _, err := syntax.ParseExpr(query); err != nil {
			fmt.Fprintf(os.Stderr, "%s\n  %v\n", query, err)
			code = 1
		}
	}
	os.Exit(code)
}
