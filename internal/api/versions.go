package api

import (
	"net/http"

	"baryon/internal/resource"
)

// versionPath tells whether a path is a version document, which needs no token: clients read it to find out how to ask.
func versionPath(path string) bool { return path == "/" || path == "" || path == prefix+"/" }

// core are the resources that GET /v2.0/ lists.
var core = [][2]string{{"network", "networks"}, {"subnet", "subnets"}, {"port", "ports"}}

// versions answers GET / and GET /v2.0/.
func (s *server) versions(q *request) error {
	if q.Method != http.MethodGet {
		q.w.Header().Set("Allow", http.MethodGet)
		return errMethod(q.Method)
	}
	root := q.base() + prefix + "/"
	if q.URL.Path != prefix+"/" {
		return q.build(http.StatusOK, func(b []byte) []byte {
			b = append(b, `{"versions":[{"id":"v2.0","status":"CURRENT","links":`...)
			b = resource.AppendLinks(b, []resource.Link{{Rel: "self", Href: root}})
			return append(b, `}]}`...)
		})
	}
	return q.build(http.StatusOK, func(b []byte) []byte {
		b = resource.AppendList(append(b, `{"resources":`...), core, func(b []byte, names [2]string) []byte {
			b = resource.AppendString(append(b, `{"name":`...), names[0])
			b = resource.AppendString(append(b, `,"collection":`...), names[1])
			b = resource.AppendLinks(append(b, `,"links":`...), []resource.Link{{Rel: "self", Href: root + names[1]}})
			return append(b, '}')
		})
		return append(b, '}')
	})
}
