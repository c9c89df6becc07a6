package api

import (
	"context"
	"net/http"
	"net/netip"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// schedulingRoutes are the sub-resources of the extension dhcp_agent_scheduler.
func (s *server) schedulingRoutes() []route {
	return []route{
		on("/agents/{}/dhcp-networks", map[string]handler{http.MethodGet: s.listDHCPNetworks, http.MethodPost: s.addDHCPNetwork}),
		on("/agents/{}/dhcp-networks/{}", map[string]handler{http.MethodDelete: s.removeDHCPNetwork}),
		on("/networks/{}/dhcp-agents", map[string]handler{http.MethodGet: s.listDHCPAgents}),
	}
}

func (s *server) listDHCPNetworks(q *request) error {
	rows, err := s.Services.DHCP.DHCPNetworks(q.Context(), q.caller, q.args[0])
	return sendRows(q, model.Networks, rows, err)
}

func (s *server) listDHCPAgents(q *request) error {
	rows, err := s.Services.DHCP.DHCPAgents(q.Context(), q.caller, q.args[0])
	return sendRows(q, model.Agents, rows, err)
}

// sendRows answers a list that is never filtered or paged; only fields are selected.
func sendRows[T any](q *request, def *resource.Definition[T], rows []*T, err error) error {
	if err != nil {
		return err
	}
	params, err := q.query()
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, def.Plural, def.Encoder(resource.Fields(params), q.operator()).AppendAll, rows)
}

func (s *server) addDHCPNetwork(q *request) error {
	m, err := q.topObject()
	if err != nil {
		return err
	}
	id, ok := m["network_id"].(string)
	if !ok || len(m) != 1 {
		return badRequest("Failed to parse request. Required attribute 'network_id' not specified")
	}
	if err := s.Services.DHCP.AddDHCPNetwork(q.Context(), q.caller, q.args[0], id); err != nil {
		return err
	}
	q.send(http.StatusCreated, []byte("{}")) // clients decode the body, whatever it is
	return nil
}

func (s *server) removeDHCPNetwork(q *request) error {
	if err := s.Services.DHCP.RemoveDHCPNetwork(q.Context(), q.caller, q.args[0], q.args[1]); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

// bindingRoutes are the sub-resources of the extension binding-extended.
func (s *server) bindingRoutes() []route {
	return []route{
		on("/ports/{}/bindings", map[string]handler{http.MethodGet: s.listBindings, http.MethodPost: s.createBinding}),
		on("/ports/{}/bindings/{}", map[string]handler{
			http.MethodGet: s.showBinding, http.MethodPut: s.updateBinding, http.MethodDelete: s.deleteBinding}),
		on("/ports/{}/bindings/{}/activate", map[string]handler{http.MethodPut: s.activateBinding}),
	}
}

func (s *server) listBindings(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	lq, err := model.PortBindings.ParseQuery(params, 0)
	if err != nil {
		return err
	}
	rows, err := s.Services.Bindings.ListBindings(q.Context(), q.caller, q.args[0])
	if err != nil {
		return err
	}
	rows, err = cut(model.PortBindings, lq, rows)
	if err != nil {
		return err
	}
	enc := model.PortBindings.Encoder(lq.Fields, true)
	return sendPage(q, model.PortBindings, enc, lq, "ports/"+q.args[0]+"/bindings", rows)
}

// cut filters, sorts and cuts rows that are no table.
func cut[T any](def *resource.Definition[T], lq *resource.Query[T], rows []*T) ([]*T, error) {
	var matching []*T
	var marker *T
	for _, row := range rows {
		if lq.Match(row) {
			matching = append(matching, row)
		}
		if lq.Marker != "" && def.Key(row) == lq.Marker {
			marker = row
		}
	}
	if lq.Marker != "" && marker == nil {
		return nil, notFound(def.Singular, lq.Marker)
	}
	return lq.Page(matching, marker), nil
}

func (s *server) showBinding(q *request) error {
	row, err := s.Services.Bindings.ShowBinding(q.Context(), q.caller, q.args[0], q.args[1])
	return sendBinding(q, http.StatusOK, row, err)
}

func (s *server) createBinding(q *request) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	in, bulk, err := model.PortBindings.ParseCreate(body, q.creator())
	if err != nil {
		return err
	}
	if bulk {
		return badRequest("Bulk operation not supported")
	}
	row, err := s.Services.Bindings.CreateBinding(q.Context(), q.caller, q.args[0], in[0])
	return sendBinding(q, http.StatusCreated, row, err)
}

func (s *server) updateBinding(q *request) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	in, err := model.PortBindings.ParseUpdate(body)
	if err != nil {
		return err
	}
	row, err := s.Services.Bindings.UpdateBinding(q.Context(), q.caller, q.args[0], q.args[1], in)
	return sendBinding(q, http.StatusOK, row, err)
}

// activateBinding takes no body; one that is sent is ignored.
func (s *server) activateBinding(q *request) error {
	row, err := s.Services.Bindings.ActivateBinding(q.Context(), q.caller, q.args[0], q.args[1])
	return sendBinding(q, http.StatusOK, row, err)
}

func (s *server) deleteBinding(q *request) error {
	if err := s.Services.Bindings.DeleteBinding(q.Context(), q.caller, q.args[0], q.args[1]); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

func sendBinding(q *request, status int, row *model.PortBinding, err error) error {
	if err != nil {
		return err
	}
	return sendOne(q, status, model.PortBindings.Singular, model.PortBindings.Encoder(nil, true).Append, row)
}

// availabilityRoutes are /network-ip-availabilities and its items.
func (s *server) availabilityRoutes() []route {
	return []route{
		on("/network-ip-availabilities", map[string]handler{http.MethodGet: s.listAvailabilities}),
		on("/network-ip-availabilities/{}", map[string]handler{http.MethodGet: s.showAvailability}),
	}
}

func (s *server) listAvailabilities(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	lq, err := model.IPAvailabilities.ParseQuery(params, s.MaxLimit)
	if err != nil {
		return err
	}
	var rows []*model.IPAvailability
	err = s.Store.View(q.Context(), func(r store.Read) error {
		rows = s.Services.IPAvailability.IPAvailabilities(r, q.caller)
		return nil
	})
	if err != nil {
		return err
	}
	if versions := params["ip_version"]; versions != nil {
		keep, err := resource.OneOf(4, 6).Match(versions)
		if err != nil {
			return err
		}
		for i, row := range rows {
			rows[i] = row.WithVersions(keep)
		}
	}
	rows, err = cut(model.IPAvailabilities, lq, rows)
	if err != nil {
		return err
	}
	enc := model.IPAvailabilities.Encoder(lq.Fields, true)
	return sendPage(q, model.IPAvailabilities, enc, lq, "network-ip-availabilities", rows)
}

func (s *server) showAvailability(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	var row *model.IPAvailability
	err = s.Store.View(q.Context(), func(r store.Read) error {
		found, ok := s.Services.IPAvailability.IPAvailabilityOf(r, q.caller, q.args[0])
		if !ok {
			return notFound("network", q.args[0])
		}
		row = found
		return nil
	})
	if err != nil {
		return err
	}
	enc := model.IPAvailabilities.Encoder(resource.Fields(params), true)
	return sendOne(q, http.StatusOK, model.IPAvailabilities.Singular, enc.Append, row)
}

func (s *server) listZones(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	lq, err := model.AvailabilityZones.ParseQuery(params, s.MaxLimit)
	if err != nil {
		return err
	}
	var rows []*model.AvailabilityZone
	err = s.Store.View(q.Context(), func(r store.Read) error {
		rows = s.Services.Zones.Zones(r)
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = cut(model.AvailabilityZones, lq, rows)
	if err != nil {
		return err
	}
	return sendPage(q, model.AvailabilityZones, model.AvailabilityZones.Encoder(lq.Fields, true), lq, "availability_zones", rows)
}

// addressRoutes are the member actions of address groups.
func (s *server) addressRoutes() []route {
	put := func(change addressChange) map[string]handler {
		return map[string]handler{http.MethodPut: func(q *request) error { return changeAddresses(q, change) }}
	}
	return []route{
		on("/address-groups/{}/add_addresses", put(s.Services.Addresses.AddAddresses)),
		on("/address-groups/{}/remove_addresses", put(s.Services.Addresses.RemoveAddresses)),
	}
}

// addressChange is one of the two methods of Addresses.
type addressChange func(ctx context.Context, c *identity.Caller, groupID string, list []netip.Prefix) (*model.AddressGroup, error)

// changeAddresses reads {"addresses": [...]} and answers the group.
func changeAddresses(q *request, change addressChange) error {
	m, err := q.topObject()
	if err != nil {
		return err
	}
	if inner, ok := m[model.AddressGroups.Singular].(map[string]any); ok && len(m) == 1 {
		m = inner // as some clients wrap it
	}
	given, ok := m["addresses"]
	if !ok || len(m) != 1 {
		return badRequest("Failed to parse request. Required attribute 'addresses' not specified")
	}
	list, err := model.ParseAddresses(given)
	if err != nil {
		return err
	}
	row, err := change(q.Context(), q.caller, q.args[0], list)
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, model.AddressGroups.Singular, model.AddressGroups.Encoder(nil, q.operator()).Append, row)
}
