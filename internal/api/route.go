package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"baryon/internal/neutron"
	"baryon/internal/resource"
)

// prefix is where every route but the version list starts.
const prefix = "/v2.0"

// handler answers a request whose caller is known.  An error becomes the error body it maps to.
type handler func(q *request) error

// route is one URL pattern: segments are literal or "{}", which stands for one segment of any text.
type route struct {
	pattern  string
	segments []string
	methods  map[string]handler
}

func (r *route) allow() string {
	return strings.Join(slices.Sorted(maps.Keys(r.methods)), ", ")
}

// table lists every route.  Literal segments come before {} of the same shape.
func (s *server) table() []route {
	v := &s.Services
	routes := slices.Concat(
		collection(s, "networks", v.Networks),
		collection(s, "segments", v.Segments),
		collection(s, "network_segment_ranges", v.SegmentRanges),
		collection(s, "subnets", v.Subnets),
		collection(s, "ports", v.Ports),
		collection(s, "agents", v.Agents),
		collection(s, "security-groups", v.SecurityGroups),
		collection(s, "security-group-rules", v.SecurityGroupRules),
		collection(s, "address-groups", v.AddressGroups),
		collection(s, "default-security-group-rules", v.DefaultRules),
		collection(s, "rbac-policies", v.RBACPolicies),
		collection(s, "qos/policies", v.QoSPolicies),
		collection(s, "trunks", v.Trunks),
		s.quotaRoutes(),
		s.extensionRoutes(),
	)
	if v.Tags != nil {
		for _, plural := range []string{"networks", "subnets", "ports", "security-groups", "security-group-rules", "qos/policies", "policies", "trunks", "network_segment_ranges"} {
			routes = append(routes, s.tagRoutes(plural)...)
		}
	}
	if v.Addresses != nil {
		routes = append(routes, s.addressRoutes()...)
	}
	if v.QoSRules != nil {
		routes = append(routes, s.qosRoutes()...)
	}
	if v.SubPorts != nil {
		routes = append(routes, s.trunkRoutes()...)
	}
	if v.DHCP != nil {
		routes = append(routes, s.schedulingRoutes()...)
	}
	if v.Bindings != nil {
		routes = append(routes, s.bindingRoutes()...)
	}
	if v.IPAvailability != nil {
		routes = append(routes, s.availabilityRoutes()...)
	}
	if v.Zones != nil {
		routes = append(routes, on("/availability_zones", map[string]handler{http.MethodGet: s.listZones}))
	}
	return routes
}

// on makes a route.  pattern is below /v2.0; methods come in pairs of name and handler, and nil handlers are left out (405).
func on(pattern string, methods map[string]handler) route {
	maps.DeleteFunc(methods, func(_ string, h handler) bool { return h == nil })
	return route{pattern: prefix + pattern, segments: strings.Split(pattern[1:], "/"), methods: methods}
}

// splitPath cuts an escaped path below /v2.0 into segments.  A slash at the end is ignored, and so is ".json" after the last
// segment, unless that is a tag, whose text is the client's own.
func splitPath(escaped string) ([]string, error) {
	rest, ok := strings.CutPrefix(escaped, prefix+"/")
	if !ok {
		return nil, nil
	}
	path := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	last := len(path) - 1
	if tag := last >= 3 && path[last-1] == "tags"; !tag {
		path[last] = strings.TrimSuffix(path[last], ".json")
	}
	for i, s := range path {
		u, err := url.PathUnescape(s)
		if err != nil {
			return nil, fmt.Errorf("unescape path: %w", err)
		}
		path[i] = u
	}
	return path, nil
}

// find looks up the route of a path and what stands in its {}.
func (s *server) find(path []string) (*route, []string) {
	for i := range s.routes {
		rt := &s.routes[i]
		if len(rt.segments) != len(path) {
			continue
		}
		var args []string
		fits := true
		for j, seg := range rt.segments {
			switch {
			case seg == "{}" && path[j] != "":
				args = append(args, path[j])
			case seg != path[j]:
				fits = false
			}
		}
		if fits {
			return rt, args
		}
	}
	return nil, nil
}

// collection makes the routes of a resource: the collection and its items.
func collection[T any](s *server, path string, k *neutron.Kind[T]) []route {
	if k == nil {
		return nil
	}
	c := &collectionOf[T]{Kind: *k, srv: s, path: path}
	list, item := map[string]handler{http.MethodGet: c.list}, map[string]handler{http.MethodGet: c.show}
	if k.Create != nil {
		list[http.MethodPost] = c.create
	}
	if k.Update != nil {
		item[http.MethodPut] = c.update
	}
	if k.Delete != nil {
		item[http.MethodDelete] = c.delete
	}
	return []route{on("/"+path, list), on("/"+path+"/{}", item)}
}

// query reads the query string.
func (q *request) query() (url.Values, error) {
	v, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return nil, badRequest("Query string is malformed")
	}
	return v, nil
}

// creator is what the definitions need to know of the caller to decode a create.
func (q *request) creator() resource.Creator {
	return resource.Creator{ProjectID: q.caller.ProjectID, AnyOwner: q.caller.IsAdmin()}
}

// operator tells whether the caller sees what only administrators and services see.
func (q *request) operator() bool { return q.caller.IsAdmin() || q.caller.IsService() }
