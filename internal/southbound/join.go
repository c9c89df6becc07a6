package southbound

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"baryon/internal/pki"
)

// Enrolled tells whether the state directory holds a node's identity.
func Enrolled(stateDir string) bool {
	_, err := pki.LoadIdentity(IdentityDir(stateDir))
	return err == nil
}

// Unreachable tells whether Enrol failed only because no server answered, so that trying again makes sense.
func Unreachable(err error) bool {
	s, ok := status.FromError(err)
	return errors.Is(err, context.DeadlineExceeded) || ok && (s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded)
}
