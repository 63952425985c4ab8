// traceql parses its arguments with Tempo's TraceQL parser: nothing is said of a query that is right.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/tempo/pkg/traceql"
)

func main() {
	code := 0
	for _, query := range os.Args[1:] {
		if _, err := traceql.Parse(query); err != nil {
			fmt.Fprintf(os.Stderr, "%s\n  %v\n", query, err)
			code = 1
		}
	}
	os.Exit(code)
}
