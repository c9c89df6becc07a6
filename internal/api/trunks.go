package api

import (
	"context"
	"net/http"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
)

// trunkRoutes are the member actions of trunks.
func (s *server) trunkRoutes() []route {
	put := func(change subPortChange) map[string]handler {
		return map[string]handler{http.MethodPut: func(q *request) error { return changeSubPorts(q, change) }}
	}
	return []route{
		on("/trunks/{}/get_subports", map[string]handler{http.MethodGet: s.listSubPorts}),
		on("/trunks/{}/add_subports", put(s.Services.SubPorts.AddSubPorts)),
		on("/trunks/{}/remove_subports", put(s.Services.SubPorts.RemoveSubPorts)),
	}
}

func (s *server) listSubPorts(q *request) error {
	list, err := s.Services.SubPorts.SubPorts(q.Context(), q.caller, q.args[0])
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, "sub_ports", func(b []byte, list []model.SubPort) []byte {
		return resource.AppendList(b, list, model.AppendSubPort)
	}, list)
}

// subPortChange is one of two methods of SubPorts.
type subPortChange func(ctx context.Context, c *identity.Caller, trunkID string, list []model.SubPort) (*model.Trunk, error)

// changeSubPorts reads {"sub_ports": [...]} and answers the trunk, without an envelope as Neutron does.
func changeSubPorts(q *request, change subPortChange) error {
	m, err := q.topObject()
	if err != nil {
		return err
	}
	given, ok := m["sub_ports"]
	if !ok || len(m) != 1 {
		return badRequest("Failed to parse request. Required attribute 'sub_ports' not specified")
	}
	list, err := model.ParseSubPorts(given)
	if err != nil {
		return err
	}
	row, err := change(q.Context(), q.caller, q.args[0], list)
	if err != nil {
		return err
	}
	return q.build(http.StatusOK, func(b []byte) []byte { return model.Trunks.Encoder(nil, q.operator()).Append(b, row) })
}
