// Command parca-push pushes one file to a Parca server by its official generated API, and prints how the call ended as
// one JSON object.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"strings"
	"time"

	pb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func main() {
	address := flag.String("address", "", "push to HOST:PORT, in plain text")
	raw := flag.String("raw", "", "push this pprof file by WriteRaw")
	arrow := flag.String("arrow", "", "push this Arrow IPC stream by WriteArrow")
	labels := flag.String("labels", "__name__=process_cpu", "of WriteRaw, NAME=VALUE,NAME=VALUE")
	flag.Parse()

	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	store := pb.NewProfileStoreServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if *raw != "" {
		_, err = store.WriteRaw(ctx, &pb.WriteRawRequest{Series: []*pb.RawProfileSeries{{
			Labels:  &pb.LabelSet{Labels: parse(*labels)},
			Samples: []*pb.RawSample{{RawProfile: read(*raw)}},
		}}})
	} else {
		_, err = store.WriteArrow(ctx, &pb.WriteArrowRequest{IpcBuffer: read(*arrow)})
	}
	ended := status.Convert(err)
	json.NewEncoder(os.Stdout).Encode(map[string]string{"code": ended.Code().String(), "message": ended.Message()})
}

func parse(text string) []*pb.Label {
	var labels []*pb.Label
	for _, pair := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		labels = append(labels, &pb.Label{Name: name, Value: value})
	}
	return labels
}

func read(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return data
}
