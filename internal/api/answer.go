package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"baryon/internal/identity"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// statusClosed is what the log and the metrics say of a request whose client has gone (as nginx does); nobody receives it.
const statusClosed = 499

// answer is an error as a client sees it.
type answer struct {
	status  int
	typ     string
	message string
}

func (a *answer) Error() string { return a.typ + ": " + a.message }

var (
	errNoRoute  = &answer{http.StatusNotFound, "HTTPNotFound", "The resource could not be found."}
	errInternal = &answer{http.StatusInternalServerError, "HTTPInternalServerError",
		"Request Failed: internal server error while processing your request."}
	errTooLarge = &answer{http.StatusRequestEntityTooLarge, "HTTPRequestEntityTooLarge", "Request is too large."}
	errBusy     = &answer{http.StatusServiceUnavailable, "ServiceUnavailable", "The service is unavailable."}
	errLimits   = &answer{http.StatusServiceUnavailable, "ServiceUnavailable",
		"The request is larger than the database of this cloud is set up for. Ask for less at once."}
)

// errAuthDown marks a request of which it could not be found out who sends it.
var errAuthDown = errors.New("authenticator failed")

func errMethod(method string) error {
	return &answer{http.StatusMethodNotAllowed, "HTTPMethodNotAllowed",
		"The method " + resource.Show(method) + " is not allowed for this resource."}
}

func badRequest(format string, a ...any) error { return resource.Refuse(format, a...) }

// statusOf is the table of error classes.
func statusOf(c neutron.Class) int {
	switch c {
	case neutron.ClassBadRequest:
		return http.StatusBadRequest
	case neutron.ClassForbidden:
		return http.StatusForbidden
	case neutron.ClassNotFound:
		return http.StatusNotFound
	case neutron.ClassConflict:
		return http.StatusConflict
	case neutron.ClassPrecondition:
		return http.StatusPreconditionFailed
	case neutron.ClassUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// explain turns any error into what a client sees.  known is false when the client sees nothing of it, so that it must be logged.
func explain(err error) (a *answer, known bool) {
	var (
		refused *resource.BadRequest
		rule    *neutron.Error
		large   *http.MaxBytesError
	)
	switch {
	case errors.As(err, &a):
		return a, true
	case errors.As(err, &refused):
		return &answer{http.StatusBadRequest, refused.Type, refused.Message}, true
	case errors.As(err, &rule):
		return &answer{statusOf(rule.Class), rule.Type, rule.Message}, true
	case errors.As(err, &large):
		return errTooLarge, true
	case errors.Is(err, errAuthDown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, store.ErrClosed):
		return errBusy, false
	case errors.Is(err, store.ErrTooLarge):
		return errLimits, false
	}
	return errInternal, false
}

// fail answers an error.
func (q *request) fail(err error) {
	var denied *identity.UnauthorizedError
	if errors.As(err, &denied) {
		q.unauthorized(denied)
		return
	}
	if q.Context().Err() != nil && errors.Is(err, context.Canceled) {
		q.status = statusClosed // the client has gone: there is nobody to answer
		return
	}
	a, known := explain(err)
	if !known {
		q.srv.Log.Error("request failed", "request", q.id, "method", q.Method, "path", q.URL.Path, "err", err)
	}
	b := resource.AppendString([]byte(`{"NeutronError":{"type":`), a.typ)
	b = resource.AppendString(append(b, `,"message":`...), a.message)
	q.send(a.status, append(b, `,"detail":""}}`...))
}

// unauthorized answers 401 as Keystone's middleware does.
func (q *request) unauthorized(e *identity.UnauthorizedError) {
	q.srv.Log.Debug("request refused", "request", q.id, "path", q.URL.Path, "from", q.RemoteAddr, "err", e)
	q.w.Header().Set("WWW-Authenticate", e.Challenge())
	q.send(http.StatusUnauthorized, []byte(`{"error":{"code":401,"title":"Unauthorized",`+
		`"message":"The request you have made requires authentication."}}`))
}

// send writes a JSON answer.  A client that does not read it is its own loss.
func (q *request) send(status int, body []byte) {
	q.status = status
	h := q.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	q.w.WriteHeader(status)
	if q.Method != http.MethodHead {
		_, _ = q.w.Write(body)
	}
}

// sendEmpty writes an answer without a body.
func (q *request) sendEmpty(status int) error {
	q.status = status
	q.w.WriteHeader(status)
	return nil
}

// buffers keeps what answers are built in.  Large ones are left to the collector.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const keepBuffer = 4 << 20

// build sends what f appends to an empty buffer.
func (q *request) build(status int, f func(b []byte) []byte) error {
	p := buffers.Get().(*[]byte)
	*p = f((*p)[:0])
	q.send(status, *p)
	if cap(*p) <= keepBuffer {
		buffers.Put(p)
	}
	return nil
}

// body reads the whole request body.
func (q *request) body() ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(q.w, q.Body, q.srv.MaxBody))
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		return nil, badRequest("Request body could not be read")
	}
	return b, err
}

// object reads a body that must be {"<name>": {...}} and returns the inner object.
func (q *request) object(name string) (map[string]any, error) {
	m, err := q.topObject()
	if err != nil {
		return nil, err
	}
	inner, ok := m[name].(map[string]any)
	if !ok || len(m) != 1 {
		return nil, badRequest("Unable to find '%s' in request body", name)
	}
	return inner, nil
}

// topObject reads a body that must be a JSON object.
func (q *request) topObject() (map[string]any, error) {
	b, err := q.body()
	if err != nil {
		return nil, err
	}
	return resource.ParseObject(b)
}

// ifMatch reads "If-Match: revision_number=N"; nil when the header is absent.
func (q *request) ifMatch() (*int64, error) {
	values := q.Header.Values("If-Match")
	if len(values) == 0 {
		return nil, nil
	}
	n, err := int64(0), error(nil)
	text, ok := strings.CutPrefix(strings.TrimSpace(values[0]), "revision_number=")
	if ok {
		n, err = strconv.ParseInt(text, 10, 64)
	}
	if !ok || err != nil || n < 0 || len(values) > 1 {
		return nil, &resource.BadRequest{Type: "InvalidInput",
			Message: "Invalid input for operation: If-Match must be revision_number=N, not '" + resource.Show(values[0]) + "'."}
	}
	return &n, nil
}
