// Command profiled is a program that is profiled by real clients: Go's own net/http/pprof, Pyroscope's SDK, or
// Datadog's profiler. What happens is one JSON object a line on standard output.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/DataDog/dd-trace-go/v2/profiler"
	"github.com/grafana/pyroscope-go"
)

var kept [][]byte

func main() {
	listen := flag.String("listen", "", "serve /debug/pprof at this address")
	ingest := flag.String("pyroscope", "", "push to this server by Pyroscope's SDK, for example http://localhost:4040")
	agent := flag.String("datadog", "", "push to this agent by Datadog's profiler, HOST:PORT")
	period := flag.Duration("period", time.Second, "how long one pushed profile is")
	name := flag.String("name", "profiled", "name of the service")
	flag.Parse()

	runtime.MemProfileRate = 4096
	if *listen != "" {
		serve(*listen)
	}
	if *ingest != "" {
		startPyroscope(*ingest, *name, *period)
	}
	if *agent != "" {
		startDatadog(*agent, *name, *period)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	for {
		select {
		case <-ended:
			return
		default:
			Spin(20 * time.Millisecond)
			Allocate()
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Spin takes CPU time, so that a CPU profile has something to show.
//
//go:noinline
func Spin(how time.Duration) int {
	count := 0
	for until := time.Now().Add(how); time.Now().Before(until); {
		for i := range 10_000 {
			count += i * i
		}
	}
	return count
}

// Allocate keeps a little, so that a heap profile has something to show.
//
//go:noinline
func Allocate() {
	kept = append(kept, make([]byte, 32<<10))
	if len(kept) > 256 {
		kept = kept[128:]
	}
}

func serve(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, nil)) }()
	report("listening", "http://"+listener.Addr().String())
}

func startPyroscope(server, name string, period time.Duration) {
	_, err := pyroscope.Start(pyroscope.Config{
		ApplicationName: name,
		ServerAddress:   server,
		UploadRate:      period,
		Tags:            map[string]string{"env": "test"},
		TenantID:        "tenant-1",
		Logger:          complaints{},
		ProfileTypes:    []pyroscope.ProfileType{pyroscope.ProfileCPU, pyroscope.ProfileAllocSpace, pyroscope.ProfileInuseSpace},
	})
	if err != nil {
		log.Fatal(err)
	}
	report("pushing", server)
}

func startDatadog(agent, name string, period time.Duration) {
	err := profiler.Start(
		profiler.WithAgentAddr(agent),
		profiler.WithService(name),
		profiler.WithEnv("test"),
		profiler.WithVersion("1.2.3"),
		profiler.WithPeriod(period),
		profiler.CPUDuration(period),
		profiler.WithProfileTypes(profiler.CPUProfile, profiler.HeapProfile),
	)
	if err != nil {
		log.Fatal(err)
	}
	report("pushing", agent)
}

// complaints prints what Pyroscope's SDK says went wrong.
type complaints struct{}

func (complaints) Infof(string, ...any)  {}
func (complaints) Debugf(string, ...any) {}
func (complaints) Errorf(format string, values ...any) {
	report("error", fmt.Sprintf(format, values...))
}

func report(event, text string) {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"event": event, "text": text})
}
