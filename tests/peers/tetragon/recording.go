package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cilium/tetragon/api/v1/tetragon"
)

// readAll reads recordings whole: what is streamed later must not wait for a disk or a parser.
func readAll(paths []string) ([]*tetragon.GetEventsResponse, error) {
	var events []*tetragon.GetEventsResponse
	for _, path := range paths {
		more, err := readFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: record %d: %w", path, len(more)+1, err)
		}
		events = append(events, more...)
	}
	return events, nil
}

func readFile(path string) ([]*tetragon.GetEventsResponse, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	if magic, _ := reader.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		plain, err := gzip.NewReader(reader)
		if err != nil {
			return nil, err
		}
		reader = bufio.NewReader(plain)
	}
	next := readMessage
	if first, _ := reader.Peek(1); bytes.Equal(first, []byte("{")) {
		next = readLine
	}
	var events []*tetragon.GetEventsResponse
	for {
		event, err := next(reader)
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, event)
	}
}

// readMessage reads one message behind its length. Fields that this API does not know are kept and sent on.
func readMessage(reader *bufio.Reader) (*tetragon.GetEventsResponse, error) {
	var length uint32
	if err := binary.Read(reader, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(reader, data); err != nil {
		return nil, fmt.Errorf("cut off: %v", err)
	}
	event := new(tetragon.GetEventsResponse)
	return event, proto.Unmarshal(data, event)
}

func readLine(reader *bufio.Reader) (*tetragon.GetEventsResponse, error) {
	line, err := reader.ReadBytes('\n')
	if err != nil && len(line) == 0 {
		return nil, err
	}
	event := new(tetragon.GetEventsResponse)
	return event, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(line, event)
}
