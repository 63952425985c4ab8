package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/cilium/tetragon/api/v1/tetragon"
)

// client is what the agent keeps for each GetEvents call: a bounded queue.
type client struct {
	queue  chan *tetragon.GetEventsResponse
	gone   <-chan struct{}
	cancel context.CancelFunc
}

type agent struct {
	tetragon.UnimplementedFineGuidanceSensorsServer

	options  options
	stopped  chan struct{} // closed when the agent ends at once
	finished chan struct{} // closed when the last event is queued and nothing lingers
	first    chan struct{} // closed by the first client

	lock     sync.Mutex
	clients  map[*client]struct{}
	seen     bool
	none     *sync.Cond // on lock: no client is left
	produced int        // events of the recording, as often as it looped
	sent     int        // events that a client's stream took, summed over clients
	dropped  int        // events that a client's full queue could not take
}

func newAgent(o options) *agent {
	a := &agent{
		options:  o,
		stopped:  make(chan struct{}),
		finished: make(chan struct{}),
		first:    make(chan struct{}),
		clients:  make(map[*client]struct{}),
	}
	a.none = sync.NewCond(&a.lock)
	return a
}

func (a *agent) stats() map[string]any {
	a.lock.Lock()
	defer a.lock.Unlock()
	return map[string]any{"produced": a.produced, "sent": a.sent, "dropped": a.dropped}
}

func (a *agent) stop() { close(a.stopped) }

// hangUp ends the streams that are open; their clients may come back.
func (a *agent) hangUp() {
	a.lock.Lock()
	defer a.lock.Unlock()
	for c := range a.clients {
		c.cancel()
	}
}

// serveMetrics serves what the agent says of its losses, over all its clients:
// github.com/cilium/tetragon/pkg/metrics/eventmetrics.
func (a *agent) serveMetrics() error {
	listener, err := net.Listen("tcp", a.options.metrics)
	if err != nil {
		return err
	}
	go http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "tetragon_notify_overflowed_events_total %d\n", a.stats()["dropped"])
	}))
	return nil
}

// finish waits until every client has what is queued for it.
func (a *agent) finish() {
	close(a.finished)
	a.lock.Lock()
	defer a.lock.Unlock()
	for len(a.clients) > 0 {
		a.none.Wait()
	}
}

// stream hands the recording to whoever listens, at the rate that was asked for. Like the agent's events, what nobody
// listens to is gone.
func (a *agent) stream(passes iter.Seq[[]*tetragon.GetEventsResponse]) {
	if a.options.waitForClient {
		select {
		case <-a.first:
		case <-a.stopped:
			return
		}
		select {
		case <-time.After(a.options.delay):
		case <-a.stopped:
			return
		}
	}
	begin, count := time.Now(), 0
	report("begin", nil)
	for events := range passes {
		for _, event := range events {
			if a.options.count > 0 && count == a.options.count || !a.pace(begin, count) {
				return
			}
			if a.options.stamp {
				event.Time = timestamppb.Now()
			}
			a.notify(event)
			count++
		}
	}
}

// slack is how much too early an event may be: sleeping takes longer than this.
const slack = 100 * time.Microsecond

// pace waits for the time of event number count; false when the agent was stopped.
func (a *agent) pace(begin time.Time, count int) bool {
	var wait time.Duration
	if a.options.rate > 0 {
		wait = time.Until(begin.Add(time.Duration(float64(count) / a.options.rate * float64(time.Second))))
	}
	if wait <= slack {
		select {
		case <-a.stopped:
			return false
		default:
			return true
		}
	}
	select {
	case <-a.stopped:
		return false
	case <-time.After(wait):
		return true
	}
}

// notify queues one event for every client: github.com/cilium/tetragon/pkg/server/server.go, Notify.
func (a *agent) notify(event *tetragon.GetEventsResponse) {
	a.lock.Lock()
	a.produced++
	clients := make([]*client, 0, len(a.clients))
	for c := range a.clients {
		clients = append(clients, c)
	}
	a.lock.Unlock()
	for _, c := range clients {
		if a.options.drop {
			select {
			case c.queue <- event:
			default:
				a.lock.Lock()
				a.dropped++
				a.lock.Unlock()
			}
			continue
		}
		select {
		case c.queue <- event:
		case <-c.gone:
		case <-a.stopped:
		}
	}
}

// GetEvents streams what is produced from now on: the agent has no history. The request is reported, not applied.
func (a *agent) GetEvents(
	request *tetragon.GetEventsRequest, stream grpc.ServerStreamingServer[tetragon.GetEventsResponse],
) error {
	text, err := protojson.Marshal(request)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	c := &client{queue: make(chan *tetragon.GetEventsResponse, a.options.queue), gone: ctx.Done(), cancel: cancel}
	a.add(c)
	report("client", map[string]any{"request": json.RawMessage(text)})
	sent, err := a.send(c, stream)
	a.remove(c)
	report("client_gone", map[string]any{"sent": sent})
	return err
}

func (a *agent) send(c *client, stream grpc.ServerStreamingServer[tetragon.GetEventsResponse]) (int, error) {
	sent := 0
	for {
		var event *tetragon.GetEventsResponse
		select {
		case event = <-c.queue:
		case <-c.gone:
			return sent, status.Error(codes.Unavailable, "the stream ends")
		case <-a.stopped:
			return sent, status.Error(codes.Unavailable, "the agent stops")
		case <-a.finished:
			// Nothing is queued any more, but select chooses at random among what is ready.
			if len(c.queue) == 0 {
				return sent, status.Error(codes.Unavailable, "the recording is over")
			}
			event = <-c.queue
		}
		if err := stream.Send(event); err != nil {
			return sent, err
		}
		sent++
		a.lock.Lock()
		a.sent++
		a.lock.Unlock()
		if a.options.closeAfter > 0 && sent >= a.options.closeAfter {
			return sent, status.Error(codes.Unavailable, "the stream ends after so many events, as asked")
		}
	}
}

func (a *agent) add(c *client) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.clients[c] = struct{}{}
	if !a.seen {
		a.seen = true
		close(a.first)
	}
}

func (a *agent) remove(c *client) {
	a.lock.Lock()
	defer a.lock.Unlock()
	delete(a.clients, c)
	if len(a.clients) == 0 {
		a.none.Broadcast()
	}
}

// GetVersion answers like the agent of a release.
func (a *agent) GetVersion(context.Context, *tetragon.GetVersionRequest) (*tetragon.GetVersionResponse, error) {
	return &tetragon.GetVersionResponse{Version: a.options.version}, nil
}

// GetHealth answers like the agent: one entry, always running.
func (a *agent) GetHealth(
	context.Context, *tetragon.GetHealthStatusRequest,
) (*tetragon.GetHealthStatusResponse, error) {
	return &tetragon.GetHealthStatusResponse{HealthStatus: []*tetragon.HealthStatus{{
		Event:   tetragon.HealthStatusType_HEALTH_STATUS_TYPE_STATUS,
		Status:  tetragon.HealthStatusResult_HEALTH_STATUS_RUNNING,
		Details: "running",
	}}}, nil
}
