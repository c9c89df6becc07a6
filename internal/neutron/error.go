// Package neutron holds what the Networking API means: the rules of create, update and delete, each inside one store
// transaction, and what of an object a caller sees.  It knows no HTTP.
package neutron

import "fmt"

// Class groups errors by how the API answers them; one table in package api maps it to an HTTP status.
type Class int

// The classes and their HTTP status.
const (
	ClassBadRequest   Class = iota // 400
	ClassForbidden                 // 403
	ClassNotFound                  // 404
	ClassConflict                  // 409
	ClassPrecondition              // 412
	ClassUnavailable               // 503
	ClassInternal                  // 500, with a message fit for the client
)

// Error is an answer of the API.  Type is Neutron's exception class name, Message is a sentence in Neutron's style.
type Error struct {
	Class   Class
	Type    string
	Message string
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// BadRequest makes a 400 answer.
func BadRequest(typ, format string, a ...any) *Error {
	return newError(ClassBadRequest, typ, format, a)
}

// InvalidInput makes the 400 answer "Invalid input for operation: ...".
func InvalidInput(format string, a ...any) *Error {
	return newError(ClassBadRequest, "InvalidInput", "Invalid input for operation: "+format+".", a)
}

// Forbidden makes a 403 answer.
func Forbidden(typ, format string, a ...any) *Error { return newError(ClassForbidden, typ, format, a) }

// NotFound makes a 404 answer.
func NotFound(typ, format string, a ...any) *Error { return newError(ClassNotFound, typ, format, a) }

// Conflict makes a 409 answer.
func Conflict(typ, format string, a ...any) *Error { return newError(ClassConflict, typ, format, a) }

// Internal makes a 500 answer whose message the client may read.
func Internal(typ, format string, a ...any) *Error { return newError(ClassInternal, typ, format, a) }

// Unavailable makes a 503 answer.
func Unavailable(typ, format string, a ...any) *Error {
	return newError(ClassUnavailable, typ, format, a)
}

func newError(c Class, typ, format string, a []any) *Error {
	return &Error{Class: c, Type: typ, Message: fmt.Sprintf(format, a...)}
}

// Temporary tells whether the same request may succeed later without anybody changing anything.
func (e *Error) Temporary() bool { return e.Class == ClassUnavailable }
