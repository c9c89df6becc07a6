package api

import (
	"net/http"
	"strings"

	"baryon/internal/neutron"
	"baryon/internal/resource"
)

// sendOne answers {"<name>": row}.
func sendOne[T any](q *request, status int, name string, encode func(b []byte, row T) []byte, row T) error {
	return q.build(status, func(b []byte) []byte {
		b = resource.AppendString(append(b, '{'), name)
		return append(encode(append(b, ':'), row), '}')
	})
}

// nowhere are the messages of exceptions that are worded otherwise than most.
var nowhere = map[string]string{
	"security_group":              "Security group %s does not exist",
	"security_group_rule":         "Security group rule %s does not exist",
	"default_security_group_rule": "Default Security Group rule %s does not exist",
	"rbac_policy":                 "RBAC policy of type unknown with ID %s not found",
	"network_segment_range":       "Network Segment Range %s could not be found.",
	"address_group":               "Address group %s could not be found.",
	"policy":                      "QoS policy %s could not be found.",
}

// called are the names of exceptions that are not made of the resource's own.
var called = map[string]string{"policy": "QosPolicy"}

// notFound is the answer for an id that names nothing the caller may know of: "PortNotFound", "Port x could not be found.".
func notFound(singular, id string) error {
	var name string
	for word := range strings.SplitSeq(singular, "_") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	if other, ok := called[singular]; ok {
		name = other
	}
	if message, ok := nowhere[singular]; ok {
		return neutron.NotFound(name+"NotFound", message, resource.Show(id))
	}
	return neutron.NotFound(name+"NotFound", "%s %s could not be found.", name, resource.Show(id))
}

// base is the URL before /v2.0 as the client sees it: the configured one, or from X-Forwarded-*, or from the request.
func (q *request) base() string {
	if q.srv.LinkPrefix != "" {
		return strings.TrimSuffix(q.srv.LinkPrefix, "/")
	}
	scheme := "http"
	if q.TLS != nil {
		scheme = "https"
	}
	if p := first(q.Header, "X-Forwarded-Proto"); p == "http" || p == "https" {
		scheme = p
	}
	host := q.Host
	if h := first(q.Header, "X-Forwarded-Host"); h != "" && plain(h, ".-:[]_") {
		host = h
	}
	path := first(q.Header, "X-Forwarded-Prefix")
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || !plain(path, "/-_.~") {
		path = ""
	}
	return scheme + "://" + host + strings.TrimSuffix(path, "/")
}

// first is the first of a header's comma separated values: what the proxy nearest to the client said.
func first(h http.Header, name string) string {
	v, _, _ := strings.Cut(h.Get(name), ",")
	return strings.TrimSpace(v)
}

// plain tells whether s consists of ASCII letters, digits and the extra characters.
func plain(s, extra string) bool {
	return len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(extra, r)
	}) < 0
}
