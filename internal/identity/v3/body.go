package v3

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// body is the object of a request, decoded and checked against its attributes.
type body map[string]any

// attr is an attribute that a request may carry.  check tells what is wrong with a value, or nothing.
type attr struct {
	name     string
	required bool // on create
	check    func(v any) string
}

const malformed = "The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error."

// document reads the request's JSON object.
func (c *call) document() (body, error) {
	dec := json.NewDecoder(c.r.Body)
	var doc any
	err := dec.Decode(&doc)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return nil, fail(http.StatusRequestEntityTooLarge, "Request is too large: at most %d bytes are read.", maxBody)
	case err != nil:
		return nil, badRequest("Malformed request: the body is not a JSON object.")
	}
	obj, ok := doc.(map[string]any)
	if !ok {
		return nil, badRequest("Malformed request: the body is not a JSON object.")
	}
	return obj, nil
}

// input reads {"<name>": {...}} and checks the inner object.  On create, required attributes must be there.
func (c *call) input(name string, attrs []attr, create bool) (body, error) {
	doc, err := c.document()
	if err != nil {
		return nil, err
	}
	v, ok := doc[name]
	if !ok {
		return nil, badRequest("'%s' is a required property", name)
	}
	in, ok := v.(map[string]any)
	if !ok {
		return nil, badRequest("Invalid input for field '%s': %s is not of type 'object'", name, show(v))
	}
	for _, a := range attrs {
		v, given := in[a.name]
		if !given {
			if a.required && create {
				return nil, badRequest("'%s' is a required property", a.name)
			}
			continue
		}
		if wrong := a.check(v); wrong != "" {
			return nil, badRequest("Invalid input for field '%s': %s", a.name, wrong)
		}
	}
	return in, nil
}

// show prints a value in a message, as JSON and short.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "the value"
	}
	if s := string(b); utf8.RuneCountInString(s) <= 64 {
		return s
	}
	return "the value"
}

func (b body) has(name string) bool { _, ok := b[name]; return ok }

// str is a text attribute; null and absent are empty.
func (b body) str(name string) string { s, _ := b[name].(string); return s }

// flag is a boolean attribute, or the default when it is absent.
func (b body) flag(name string, def bool) bool {
	if v, ok := b[name].(bool); ok {
		return v
	}
	return def
}

// list is a list of texts.
func (b body) list(name string) []string {
	var out []string
	items, _ := b[name].([]any)
	for _, v := range items {
		if s, ok := v.(string); ok && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// set changes a text when the request has it.
func (b body) set(name string, to *string) {
	if b.has(name) {
		*to = b.str(name)
	}
}

// Limits of what a row may hold besides its attributes.
const (
	maxExtra      = 64       // attributes
	maxExtraBytes = 16 << 10 // as JSON
	maxTags       = 80       // Keystone's own limit
)

// extra merges the attributes the API does not know into what a row already has; null removes one.
func (b body) extra(attrs []attr, have map[string]any) (map[string]any, error) {
	out := map[string]any{}
	for k, v := range have {
		out[k] = v
	}
	for k, v := range b {
		known := k == "id" || k == "links" || slices.ContainsFunc(attrs, func(a attr) bool { return a.name == k })
		switch {
		case known:
		case v == nil:
			delete(out, k)
		case len(k) > 64:
			return nil, badRequest("Invalid input: the name of an attribute is longer than 64 characters")
		default:
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	if raw, err := json.Marshal(out); err != nil || len(out) > maxExtra || len(raw) > maxExtraBytes {
		return nil, badRequest("Invalid input: at most %d additional attributes of together %d bytes are kept", maxExtra, maxExtraBytes)
	}
	return out, nil
}

// withExtra adds the additional attributes to what is shown; they never hide a known one.
func withExtra(out map[string]any, extra map[string]any) map[string]any {
	for k, v := range extra {
		if _, taken := out[k]; !taken {
			out[k] = v
		}
	}
	return out
}

// text accepts a string of min to max characters without control characters.
func text(lo, hi int) func(any) string {
	return func(v any) string {
		s, ok := v.(string)
		if !ok {
			return show(v) + " is not of type 'string'"
		}
		n := utf8.RuneCountInString(s)
		switch {
		case n < lo:
			return show(v) + " is too short"
		case n > hi:
			return fmt.Sprintf("%s is too long: at most %d characters are allowed", show(v), hi)
		case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }):
			return show(v) + " contains control characters"
		}
		return ""
	}
}

// name accepts a text on one line that is not blank.
func name(hi int) func(any) string {
	check := text(1, hi)
	return func(v any) string {
		if wrong := check(v); wrong != "" {
			return wrong
		}
		if s := v.(string); strings.TrimSpace(s) == "" || strings.ContainsFunc(s, unicode.IsControl) {
			return show(v) + " does not match '[\\\\S]+'"
		}
		return ""
	}
}

// orNull also accepts null.
func orNull(check func(any) string) func(any) string {
	return func(v any) string {
		if v == nil {
			return ""
		}
		return check(v)
	}
}

func boolean(v any) string {
	if _, ok := v.(bool); !ok {
		return show(v) + " is not of type 'boolean'"
	}
	return ""
}

// mustBeNull refuses a feature that is not there, with a word why.
func mustBeNull(why string) func(any) string {
	return func(v any) string {
		if v != nil {
			return why
		}
		return ""
	}
}

func object(v any) string {
	m, ok := v.(map[string]any)
	if !ok {
		return show(v) + " is not of type 'object'"
	}
	if raw, err := json.Marshal(m); err != nil || len(raw) > maxExtraBytes {
		return "the object is too large"
	}
	return ""
}

// tags accepts a list of distinct texts without comma and slash (Keystone's project tags).
func tags(v any) string {
	items, ok := v.([]any)
	if !ok {
		return show(v) + " is not of type 'array'"
	}
	if len(items) > maxTags {
		return fmt.Sprintf("the list is too long: at most %d tags are allowed", maxTags)
	}
	for i, t := range items {
		if wrong := tag(t); wrong != "" {
			return wrong
		}
		if slices.Contains(items[:i], t) {
			return show(v) + " has non-unique elements"
		}
	}
	return ""
}

func tag(v any) string {
	if wrong := name(255)(v); wrong != "" {
		return wrong
	}
	if strings.ContainsAny(v.(string), ",/") {
		return show(v) + " must not contain a comma or a slash"
	}
	return ""
}

// webURL accepts an http(s) URL; $(project_id)s and the like may stand in its path.
func webURL(v any) string {
	if wrong := name(2048)(v); wrong != "" {
		return wrong
	}
	plain := substitute(v.(string), map[string]string{})
	u, err := url.Parse(plain)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return show(v) + " is not an http or https URL"
	}
	return ""
}

// oneOf accepts one of the texts.
func oneOf(texts ...string) func(any) string {
	return func(v any) string {
		if s, ok := v.(string); !ok || !slices.Contains(texts, s) {
			return fmt.Sprintf("%s is not one of ['%s']", show(v), strings.Join(texts, "', '"))
		}
		return ""
	}
}
