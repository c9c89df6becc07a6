// Package baryonv1 is the generated form of southbound.proto: the messages between a Baryon server and its nodes.  Only
// internal/southbound uses it; everybody else speaks nodestate.
//
// Regenerate with go generate; a test of internal/southbound fails when the generated files no longer match the source.
package baryonv1

//go:generate protoc -I ../../.. --go_out=../../.. --go_opt=module=baryon --go-grpc_out=../../.. --go-grpc_opt=module=baryon proto/baryon/v1/southbound.proto
