// Package testkit holds what tests of several packages share.
package testkit

import (
	"os"
	"testing"
)

// NeedRoot skips a test that changes kernel state when it is not run by root.  With BARYON_ROOT=required, as `make test` sets it,
// it fails instead, so that no run loses such tests unseen.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("BARYON_ROOT") == "required" {
		t.Fatal("this test needs root and BARYON_ROOT=required")
	}
	t.Skip("needs root")
}
