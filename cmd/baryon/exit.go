package main

import (
	"errors"
	"os/exec"
)

// exitError carries the exit status of a command that was run for the user, whose own output has said what went wrong.
type exitError struct{ code int }

func (e *exitError) Error() string { return "the command failed" }

func asExit(err error, target **exitError) bool { return errors.As(err, target) }

// passExit turns the end of a user's command into an error that main ends with.
func passExit(err error) error {
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return &exitError{max(ee.ExitCode(), 1)}
	}
	return err
}
