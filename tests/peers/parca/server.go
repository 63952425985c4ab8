//go:build server

// Package main names the Parca server as a thing to build, so that go.mod and go.sum cover it.
package main

import _ "github.com/parca-dev/parca/cmd/parca"
