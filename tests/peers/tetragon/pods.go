package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cilium/tetragon/api/v1/tetragon"
)

// cluster puts processes into pods. The recordings were made on a bare host, where one shell starts everything: here
// each pod has its own shell, and a process runs in the pod that its exec id falls to.
type cluster struct {
	pods  []*tetragon.Pod
	life  int
	count int
	of    map[string]int
}

var workloads = []struct{ namespace, name, kind, image, component string }{
	{"payments", "checkout", "Deployment", "registry.example.com/payments/checkout:4.12.1", "api"},
	{"payments", "ledger", "StatefulSet", "registry.example.com/payments/ledger:2.3.0", "database"},
	{"shop", "frontend", "Deployment", "registry.example.com/shop/frontend:2026.11.2", "web"},
	{"shop", "recommendations", "Deployment", "registry.example.com/shop/recommendations:1.9.4", "api"},
	{"observability", "otel-collector", "DaemonSet", "otel/opentelemetry-collector-contrib:0.159.0", "agent"},
	{"batch", "invoice-export", "Job", "registry.example.com/batch/invoice-export:0.8.0", "worker"},
}

func newCluster(pods, life int) *cluster {
	c := &cluster{life: life, of: map[string]int{}}
	for number := range pods {
		c.pods = append(c.pods, newPod(number, 0))
	}
	return c
}

func digits(length int, of ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(of...)))
	return hex.EncodeToString(sum[:])[:length]
}

func newPod(number, generation int) *tetragon.Pod {
	w := workloads[number%len(workloads)]
	set := digits(10, "set", w.name)
	name := fmt.Sprintf("%s-%s-%s", w.name, set, digits(5, "pod", number, generation))
	uid := digits(32, "uid", number, generation)
	instance := fmt.Sprintf("%s-%d", w.name, number/len(workloads))
	repository, version, _ := strings.Cut(w.image, ":")
	return &tetragon.Pod{
		Namespace:    w.namespace,
		Name:         name,
		Uid:          fmt.Sprintf("%s-%s-4%s-8%s-%s", uid[:8], uid[8:12], uid[13:16], uid[17:20], uid[20:]),
		Workload:     w.name,
		WorkloadKind: w.kind,
		PodLabels: map[string]string{
			"app.kubernetes.io/name":       w.name,
			"app.kubernetes.io/instance":   instance,
			"app.kubernetes.io/version":    version,
			"app.kubernetes.io/component":  w.component,
			"app.kubernetes.io/part-of":    w.namespace,
			"app.kubernetes.io/managed-by": "Helm",
			"pod-template-hash":            set,
		},
		Container: &tetragon.Container{
			Id:   "containerd://" + digits(64, "container", number, generation),
			Name: w.name,
			Image: &tetragon.Image{
				Id:   repository + "@sha256:" + digits(64, "image", w.image),
				Name: w.image,
			},
			StartTime: &timestamppb.Timestamp{Seconds: 1_795_000_000 + int64(generation)},
		},
	}
}

// place puts the processes of the next event of the stream into their pods.
func (c *cluster) place(event *tetragon.GetEventsResponse) {
	if len(c.pods) == 0 {
		return
	}
	c.count++
	if c.life > 0 && c.count%max(1, c.life/len(c.pods)) == 0 {
		turn := c.count / max(1, c.life/len(c.pods))
		c.pods[turn%len(c.pods)] = newPod(turn%len(c.pods), 1+turn/len(c.pods))
	}
	all := processes(event)
	if len(all) == 0 {
		return
	}
	number := c.number(all[0].ExecId)
	for place, process := range all {
		pod := c.pods[number]
		if place > 0 {
			// The shell that started everything is another one in each pod.
			process.ExecId = renamed(process.ExecId, pod.Uid)
		}
		process.ParentExecId = renamed(process.ParentExecId, pod.Uid)
		process.Pod = proto.Clone(pod).(*tetragon.Pod)
		process.Pod.Container.Pid = wrapperspb.UInt32(process.GetPid().GetValue()%30_000 + 1)
		process.Docker = strings.TrimPrefix(pod.Container.Id, "containerd://")[:31]
	}
}

func (c *cluster) number(execID string) int {
	number, ok := c.of[execID]
	if !ok {
		hash := fnv.New32a()
		hash.Write([]byte(execID))
		number = int(hash.Sum32() % uint32(len(c.pods)))
		c.of[execID] = number
	}
	return number
}

// renamed is the exec id of the same process in another pod: started at another nanosecond.
func renamed(id, pod string) string {
	text, err := base64.StdEncoding.DecodeString(id)
	parts := strings.Split(string(text), ":")
	if err != nil || len(parts) != 3 {
		return id
	}
	sum := sha256.Sum256([]byte(pod))
	parts[1] = fmt.Sprint(binary.BigEndian.Uint32(sum[:4])) + parts[1][max(0, len(parts[1])-6):]
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, ":")))
}
