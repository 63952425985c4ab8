package main

import (
	"encoding/base64"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cilium/tetragon/api/v1/tetragon"
)

const (
	pidsPerPass = 20_011            // pids wrap at 1 << 22, as the kernel's do
	timePerPass = 3_600_000_000_000 // nanoseconds by which the start in an exec id moves
)

// prepare makes every pass of the recording, so that nothing has to be made once the clock runs. Passes without end are
// made one by one.
func prepare(events []*tetragon.GetEventsResponse, o options) iter.Seq[[]*tetragon.GetEventsResponse] {
	cluster := newCluster(o.pods, o.podLife)
	next := func(pass int) []*tetragon.GetEventsResponse {
		made := events
		if pass > 0 || o.stamp || o.pods > 0 {
			made = make([]*tetragon.GetEventsResponse, len(events))
			ids := identities{pass: pass, known: map[string]string{}}
			for i, event := range events {
				made[i] = proto.Clone(event).(*tetragon.GetEventsResponse)
				if pass > 0 && !o.same {
					ids.renew(made[i])
				}
				cluster.place(made[i])
			}
		}
		return made
	}
	if o.loop > 0 {
		var passes [][]*tetragon.GetEventsResponse
		for pass := range o.loop {
			passes = append(passes, next(pass))
		}
		return slices.Values(passes)
	}
	return func(yield func([]*tetragon.GetEventsResponse) bool) {
		for pass := 0; yield(next(pass)); pass++ {
		}
	}
}

// processes are all that an event names; the event's own comes first, then its parent.
func processes(event *tetragon.GetEventsResponse) []*tetragon.Process {
	message := event.ProtoReflect()
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("event"))
	if field == nil {
		return nil
	}
	var found []*tetragon.Process
	kind := message.Get(field).Message().Interface()
	if with, ok := kind.(interface{ GetProcess() *tetragon.Process }); ok && with.GetProcess() != nil {
		found = append(found, with.GetProcess())
	}
	if with, ok := kind.(interface{ GetParent() *tetragon.Process }); ok && with.GetParent() != nil {
		found = append(found, with.GetParent())
	}
	if with, ok := kind.(interface{ GetAncestors() []*tetragon.Process }); ok {
		found = append(found, with.GetAncestors()...)
	}
	return found
}

// identities gives the processes of one pass ids of their own.
type identities struct {
	pass  int
	known map[string]string
}

func (i identities) renew(event *tetragon.GetEventsResponse) {
	for _, process := range processes(event) {
		process.ExecId = i.execID(process.ExecId)
		process.ParentExecId = i.execID(process.ParentExecId)
		process.Pid = i.pid(process.Pid)
		process.Tid = i.pid(process.Tid)
	}
}

func (i identities) pid(pid *wrapperspb.UInt32Value) *wrapperspb.UInt32Value {
	if pid == nil || pid.Value < 2 {
		return pid
	}
	return wrapperspb.UInt32((pid.Value + uint32(i.pass)*pidsPerPass) % (1 << 22))
}

// execID moves what is in an exec id: base64 of "node:nanoseconds since boot:pid".
func (i identities) execID(id string) string {
	if renewed, ok := i.known[id]; ok || id == "" {
		return renewed
	}
	renewed := id
	if text, err := base64.StdEncoding.DecodeString(id); err == nil {
		parts := strings.Split(string(text), ":")
		if len(parts) == 3 {
			nanos, err1 := strconv.ParseUint(parts[1], 10, 64)
			pid, err2 := strconv.ParseUint(parts[2], 10, 32)
			if err1 == nil && err2 == nil && pid > 1 {
				moved := i.pid(wrapperspb.UInt32(uint32(pid))).Value
				nanos += uint64(i.pass) * timePerPass
				renewed = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s:%d:%d", parts[0], nanos, moved))
			}
		}
	}
	i.known[id] = renewed
	return renewed
}
