// Reads profiles with pprof's own library: what a rebuilt one says, and how long parsing and writing takes.
//
//	pprof show FILE...     one JSON object a line: what the library found in a file, or why it refuses it
//	pprof bench FILE N     one JSON object: processor time of one of N runs of parsing, and of parsing and writing
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/pprof/profile"
)

type shown struct {
	Samples    int      `json:"samples"`
	Locations  int      `json:"locations"`
	Functions  int      `json:"functions"`
	Mappings   int      `json:"mappings"`
	Types      []string `json:"types"`
	Default    string   `json:"default"`
	Totals     []string `json:"totals"`
	Comments   []string `json:"comments"`
	TimeNanos  int64    `json:"time_nanos"`
	Duration   int64    `json:"duration_nanos"`
	Period     int64    `json:"period"`
	PeriodType string   `json:"period_type"`
	Content    string   `json:"content"`
	Error      string   `json:"error"`
}

type measured struct {
	ParseNs      int64 `json:"parse_ns"`
	ParseWriteNs int64 `json:"parse_write_ns"`
	Samples      int   `json:"samples"`
}

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: pprof show FILE... | pprof bench FILE N"))
	}
	out := json.NewEncoder(os.Stdout)
	switch os.Args[1] {
	case "show":
		for _, path := range os.Args[2:] {
			data, err := os.ReadFile(path)
			if err != nil {
				fail(err)
			}
			fail(out.Encode(show(data)))
		}
	case "bench":
		data, err := os.ReadFile(os.Args[2])
		fail(err)
		runs, err := strconv.Atoi(os.Args[3])
		fail(err)
		fail(out.Encode(bench(data, runs)))
	default:
		fail(fmt.Errorf("unknown: %s", os.Args[1]))
	}
}

func show(data []byte) shown {
	p, err := profile.ParseData(data)
	if err != nil {
		return shown{Error: err.Error()}
	}
	found := shown{
		Samples: len(p.Sample), Locations: len(p.Location), Functions: len(p.Function), Mappings: len(p.Mapping),
		Default: p.DefaultSampleType, Comments: p.Comments, TimeNanos: p.TimeNanos, Duration: p.DurationNanos,
		Period: p.Period,
	}
	if p.PeriodType != nil {
		found.PeriodType = p.PeriodType.Type + "/" + p.PeriodType.Unit
	}
	totals := make([]int64, len(p.SampleType))
	for _, sample := range p.Sample {
		for i, value := range sample.Value {
			totals[i] += value
		}
	}
	for i, kind := range p.SampleType {
		found.Types = append(found.Types, kind.Type+"/"+kind.Unit)
		found.Totals = append(found.Totals, strconv.FormatInt(totals[i], 10))
	}
	found.Content = content(p)
	return found
}

// content is a hash of all samples, in any order, without ids: frames with functions, lines and mappings, values, labels.
func content(p *profile.Profile) string {
	var lines []string
	for _, sample := range p.Sample {
		line := fmt.Sprintf("%v %q %v %q", sample.Value, sample.Label, sample.NumLabel, sample.NumUnit)
		for _, location := range sample.Location {
			line += fmt.Sprintf(" [%x %v", location.Address, location.IsFolded)
			if m := location.Mapping; m != nil {
				line += fmt.Sprintf(" %x-%x+%x %q %q %v %v %v %v", m.Start, m.Limit, m.Offset, m.File, m.BuildID,
					m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames)
			}
			for _, each := range location.Line {
				line += fmt.Sprintf(" %d:%d", each.Line, each.Column)
				if f := each.Function; f != nil {
					line += fmt.Sprintf(" %q %q %q %d", f.Name, f.SystemName, f.Filename, f.StartLine)
				}
			}
			line += "]"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(lines, "\n"))))
}

func bench(data []byte, runs int) measured {
	var found measured
	for range runs {
		start := processorNs()
		p, err := profile.ParseData(data)
		fail(err)
		parsed := processorNs()
		fail(p.WriteUncompressed(&bytes.Buffer{}))
		found.ParseWriteNs += processorNs() - start
		found.ParseNs += parsed - start
		found.Samples = len(p.Sample)
	}
	found.ParseNs /= int64(runs)
	found.ParseWriteNs /= int64(runs)
	return found
}

// processorNs is the processor time of this process, the garbage collector's included: the machine may have other work.
func processorNs() int64 {
	var usage syscall.Rusage
	fail(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pprof:", err)
		os.Exit(1)
	}
}
