// Command tetragon stands in for Tetragon's agent: it streams recorded events through the official, generated
// FineGuidanceSensors service, with the agent's own queue per client and, where asked, its silent drop.
//
// SIGHUP ends the streams that are open. What happens is written to standard output, one JSON object a line: {"event": "listening", "address": ...},
// "client", "client_gone", "end" (the recording is over) and, last, "stats".
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/cilium/tetragon/api/v1/tetragon"
)

type options struct {
	listen        string
	files         files
	rate          float64
	loop          int
	same          bool
	pods          int
	podLife       int
	stamp         bool
	waitForClient bool
	delay         time.Duration
	read          string
	count         int
	queue         int
	drop          bool
	closeAfter    int
	metrics       string
	linger        bool
	version       string
}

// files is a flag that may be given more than once.
type files []string

func (f *files) String() string { return strings.Join(*f, ",") }

func (f *files) Set(path string) error {
	*f = append(*f, path)
	return nil
}

func parseOptions() options {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "host:port, or unix:///path of a socket")
	flag.Var(&o.files, "file", "recording: 4-byte big-endian length and message, or JSON lines; may be gzip; repeats")
	flag.Float64Var(&o.rate, "rate", 0, "events per second, 0 for as fast as clients read")
	flag.IntVar(&o.loop, "loop", 1, "how often the recording is streamed, 0 for without end; each pass has exec ids and pids of its own")
	flag.BoolVar(&o.same, "same-processes", false, "let all passes have the exec ids and pids of the first")
	flag.IntVar(&o.pods, "pods", 0, "put the processes into so many pods, with workloads, labels and containers")
	flag.IntVar(&o.podLife, "pod-life", 0, "replace a pod by a new one after so many events of the stream, 0 for never")
	flag.BoolVar(&o.stamp, "stamp", false, "set each event's time to when it is produced")
	flag.BoolVar(&o.waitForClient, "wait-for-client", false, "begin when the first client has asked for events")
	flag.DurationVar(&o.delay, "delay", 0, "begin so long after the first client, to see what it costs before")
	flag.StringVar(&o.read, "read", "", "be the client of an agent at this address: read and decode events, and count them")
	flag.IntVar(&o.count, "count", 0, "end after so many events, 0 for at the end of the recording's last pass, or of the stream that is read")
	flag.IntVar(&o.queue, "queue", 10000, "events queued per client, the agent's --event-queue-size")
	flag.BoolVar(&o.drop, "drop", false, "drop what a client's full queue cannot take, as the agent does, instead of waiting")
	flag.IntVar(&o.closeAfter, "close-after", 0, "end a client's stream (UNAVAILABLE) after so many events, 0 for never")
	flag.StringVar(&o.metrics, "metrics", "", "host:port for the agent's counter of dropped events, /metrics")
	flag.BoolVar(&o.linger, "linger", false, "keep serving after the last event, until SIGTERM")
	flag.StringVar(&o.version, "agent-version", "v1.7.0", "the answer of GetVersion")
	flag.Parse()
	if (len(o.files) == 0) == (o.read == "") || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	return o
}

// gcPercent lets a burst of some hundred thousand events end before the next collection.
const gcPercent = 400

var reportLock sync.Mutex

// report writes one line of what happens, for the test that started this peer.
func report(event string, fields map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range fields {
		line[name] = value
	}
	reportLock.Lock()
	defer reportLock.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatalf("standard output: %v", err)
	}
}

// listen opens the address. A socket file that a killed predecessor left is replaced, as the agent replaces it.
func listen(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix://")
	if !isUnix {
		return net.Listen("tcp", address)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(path, 0o660)
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("tetragon peer: ")
	o := parseOptions()
	if o.read != "" {
		if err := read(o.read, o.count); err != nil {
			log.Fatal(err)
		}
		return
	}
	events, err := readAll(o.files)
	if err != nil {
		log.Fatal(err)
	}
	passes := prepare(events, o)
	// The prepared passes are hundreds of megabytes that an agent does not have. To mark them while events are streamed
	// takes a core for a third of a second, and drops events that no reader could have saved.
	runtime.GC()
	debug.SetGCPercent(gcPercent)
	listener, err := listen(o.listen)
	if err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)

	agent := newAgent(o)
	if o.metrics != "" {
		if err := agent.serveMetrics(); err != nil {
			log.Fatal(err)
		}
	}
	go func() {
		for range hangup {
			agent.hangUp()
		}
	}()
	server := grpc.NewServer()
	tetragon.RegisterFineGuidanceSensorsServer(server, agent)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	report("listening", map[string]any{"address": address(listener), "events": len(events)})

	over := make(chan struct{})
	go func() {
		defer close(over)
		agent.stream(passes)
		report("end", agent.stats())
		if o.linger {
			<-agent.stopped
		}
	}()
	select {
	case <-over:
		agent.finish()
		server.GracefulStop() // clients still read what was sent
	case <-stop:
		agent.stop()
		server.Stop() // as the agent: its clients find the connection closed, UNAVAILABLE
	case err = <-served:
		log.Fatal(fmt.Errorf("serve: %w", err))
	}
	report("stats", agent.stats())
}

func address(listener net.Listener) string {
	if listener.Addr().Network() == "unix" {
		return "unix://" + listener.Addr().String()
	}
	return listener.Addr().String()
}
