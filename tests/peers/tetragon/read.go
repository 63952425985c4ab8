package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cilium/tetragon/api/v1/tetragon"
)

// read is the plainest client there is on the official API: it reads and decodes, and does nothing with it.
func read(address string, count int) error {
	if path, isUnix := strings.CutPrefix(address, "unix://"); isUnix {
		address = "unix:" + path
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := tetragon.NewFineGuidanceSensorsClient(connection)
	stream, err := client.GetEvents(context.Background(), &tetragon.GetEventsRequest{})
	if err != nil {
		return err
	}
	got := 0
	for count == 0 || got < count {
		if _, err = stream.Recv(); err != nil {
			break
		}
		got++
	}
	report("read", map[string]any{"events": got})
	if err != nil && !errors.Is(err, io.EOF) && status.Code(err) != codes.Unavailable {
		return err
	}
	return nil
}
