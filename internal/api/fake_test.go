package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// rules are neutron's rules made simple: rows go to a real store, a project sees its own, shared networks are everybody's.
type rules struct {
	st       *store.Store
	next     int
	limits   map[string]map[string]int
	bindings map[string]*model.PortBinding
	hosted   map[string]bool
	shared   map[model.ID]bool // networks
	fault    error             // what the next write answers
	crash    bool              // the next write panics
}

func (f *rules) trip() error {
	if f.crash {
		f.crash = false
		panic("the rules fell over")
	}
	err := f.fault
	f.fault = nil
	return err
}

// id numbers objects in the order of their creation.
func (f *rules) id() model.ID {
	f.next++
	return model.ID(fmt.Sprintf("00000000-0000-4000-8000-%012x", f.next))
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func kindOf[T any](f *rules, def *resource.Definition[T], std func(*T) *model.Standard, everybody func(*T) bool) *neutron.Kind[T] {
	missing := func(id string) error { return notFound(def.Singular, id) }
	visible := func(_ store.Read, c *identity.Caller, row *T) bool {
		return c.CanRead(std(row).ProjectID) || everybody(row)
	}
	check := func(row *T, match *int64) error {
		if match != nil && *match != std(row).Revision {
			return &neutron.Error{Class: neutron.ClassPrecondition, Type: "RevisionNumberConstraintFailed", Message: "Constrained to another revision."}
		}
		return nil
	}
	change := func(ctx context.Context, c *identity.Caller, id string, do func(tx store.Tx, row *T) error) error {
		if err := f.trip(); err != nil {
			return err
		}
		_, err := f.st.Update(ctx, func(tx store.Tx) error {
			row, ok := store.Get(tx, def.Table, id)
			if !ok || !visible(tx, c, row) {
				return missing(id)
			}
			return do(tx, row)
		})
		return err
	}
	return &neutron.Kind[T]{
		Def:     def,
		Visible: visible,
		Present: func(_ store.Read, _ *identity.Caller, row *T) *T {
			shown := *row
			if n, ok := any(&shown).(*model.Network); ok {
				n.Shared = f.shared[n.ID]
			}
			if p, ok := any(&shown).(*model.Port); ok {
				p.Status = model.StatusDown
				if p.AdminStateUp && p.Binding.Host != "" {
					p.Status = model.StatusActive
				}
			}
			return &shown
		},
		Create: func(ctx context.Context, c *identity.Caller, in []*resource.Input[T]) ([]*T, error) {
			if err := f.trip(); err != nil {
				return nil, err
			}
			var rows []*T
			for i, one := range in {
				row := one.Value
				std(&row).ID, std(&row).CreatedAt, std(&row).UpdatedAt = f.id(), epoch, epoch.Add(time.Duration(i)*time.Second)
				if n, ok := any(&row).(*model.Network); ok {
					f.shared[n.ID] = n.Shared
					n.Segment.Type = cmp.Or(n.Segment.Type, model.TypeLocal)
				}
				rows = append(rows, &row)
			}
			_, err := f.st.Update(ctx, func(tx store.Tx) error {
				for _, row := range rows {
					store.Put(tx, def.Table, row)
				}
				return nil
			})
			return rows, err
		},
		Update: func(ctx context.Context, c *identity.Caller, id string, in *resource.Input[T], match *int64) (*T, error) {
			var out *T
			err := change(ctx, c, id, func(tx store.Tx, old *T) error {
				if err := check(old, match); err != nil {
					return err
				}
				row := *old
				def.Apply(&row, in)
				std(&row).Revision++
				store.Put(tx, def.Table, &row)
				out = &row
				return nil
			})
			return out, err
		},
		Delete: func(ctx context.Context, c *identity.Caller, id string, match *int64) error {
			return change(ctx, c, id, func(tx store.Tx, old *T) error {
				if err := check(old, match); err != nil {
					return err
				}
				store.Delete(tx, def.Table, id)
				return nil
			})
		},
	}
}

func (f *rules) network(ctx context.Context, id string, do func(*model.Network)) error {
	_, err := f.st.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Get(tx, model.NetworkTable, id)
		if !ok {
			return notFound("network", id)
		}
		row := *old
		row.Tags = slices.Clone(row.Tags)
		do(&row)
		store.Put(tx, model.NetworkTable, &row)
		return nil
	})
	return err
}

func (f *rules) TagsOf(ctx context.Context, _ *identity.Caller, _, id string) (tags []string, err error) {
	row, ok := store.Get(f.st.Snapshot(), model.NetworkTable, id)
	if !ok {
		return nil, notFound("network", id)
	}
	return row.Tags, nil
}

func (f *rules) ReplaceTags(ctx context.Context, c *identity.Caller, plural, id string, tags []string) ([]string, error) {
	err := f.network(ctx, id, func(n *model.Network) { n.Tags = slices.Sorted(slices.Values(tags)) })
	if err != nil {
		return nil, err
	}
	return f.TagsOf(ctx, c, plural, id)
}

func (f *rules) AddTags(ctx context.Context, c *identity.Caller, plural, id string, tags []string) ([]string, error) {
	have, err := f.TagsOf(ctx, c, plural, id)
	if err != nil {
		return nil, err
	}
	return f.ReplaceTags(ctx, c, plural, id, slices.Compact(slices.Sorted(slices.Values(slices.Concat(have, tags)))))
}

func (f *rules) RemoveTag(ctx context.Context, c *identity.Caller, plural, id, tag string) error {
	have, err := f.TagsOf(ctx, c, plural, id)
	if err != nil {
		return err
	}
	if !slices.Contains(have, tag) {
		return neutron.NotFound("TagNotFound", "Tag %s could not be found.", tag)
	}
	_, err = f.ReplaceTags(ctx, c, plural, id, slices.DeleteFunc(slices.Clone(have), func(t string) bool { return t == tag }))
	return err
}

func (f *rules) AddAddresses(ctx context.Context, _ *identity.Caller, id string, list []netip.Prefix) (out *model.AddressGroup, err error) {
	_, err = f.st.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Get(tx, model.AddressGroupTable, id)
		if !ok {
			return notFound("address_group", id)
		}
		row := *old
		row.Addresses = list
		store.Put(tx, model.AddressGroupTable, &row)
		out = &row
		return nil
	})
	return out, err
}

func (f *rules) RemoveAddresses(ctx context.Context, c *identity.Caller, id string, _ []netip.Prefix) (*model.AddressGroup, error) {
	return f.AddAddresses(ctx, c, id, nil)
}

func (f *rules) QuotaResources() []string { return []string{"network", "subnet", "port"} }

func (f *rules) ListQuotas(context.Context, *identity.Caller) (out []model.Quota, err error) {
	for _, p := range slices.Sorted(maps.Keys(f.limits)) {
		out = append(out, model.Quota{ProjectID: p, Limits: f.limits[p]})
	}
	return out, nil
}

func (f *rules) QuotaOf(ctx context.Context, c *identity.Caller, project string) (map[string]int, error) {
	limits, _ := f.DefaultQuota(ctx, c, project)
	maps.Copy(limits, f.limits[project])
	return limits, nil
}

func (f *rules) DefaultQuota(context.Context, *identity.Caller, string) (map[string]int, error) {
	return map[string]int{"network": 100, "subnet": 100, "port": 500}, nil
}

func (f *rules) QuotaUsage(ctx context.Context, c *identity.Caller, project string) (map[string]model.QuotaUsage, error) {
	return map[string]model.QuotaUsage{"network": {Limit: 100, Used: 3, Reserved: 1}}, nil
}

func (f *rules) SetQuota(ctx context.Context, c *identity.Caller, project string, limits map[string]int, check bool) (map[string]int, error) {
	if check {
		return nil, neutron.BadRequest("InvalidQuotaValue", "below use")
	}
	all, _ := f.QuotaOf(ctx, c, project)
	maps.Copy(all, limits)
	f.limits[project] = all
	return all, nil
}

func (f *rules) ResetQuota(_ context.Context, _ *identity.Caller, project string) error {
	delete(f.limits, project)
	return nil
}

func (f *rules) DHCPNetworks(ctx context.Context, _ *identity.Caller, _ string) (out []*model.Network, err error) {
	for id := range f.hosted {
		if n, ok := store.Get(f.st.Snapshot(), model.NetworkTable, id); ok {
			out = append(out, n)
		}
	}
	return out, nil
}

func (f *rules) DHCPAgents(context.Context, *identity.Caller, string) ([]*model.Agent, error) {
	return []*model.Agent{{ID: "a", Type: "DHCP agent", Host: "net1", Alive: true, CreatedAt: epoch}}, nil
}

func (f *rules) AddDHCPNetwork(_ context.Context, _ *identity.Caller, agent, network string) error {
	if f.hosted[network] {
		return neutron.Conflict("NetworkHostedByDHCPAgent", "The network %s has been already hosted by the DHCP Agent %s.", network, agent)
	}
	f.hosted[network] = true
	return nil
}

func (f *rules) RemoveDHCPNetwork(_ context.Context, _ *identity.Caller, _, network string) error {
	delete(f.hosted, network)
	return nil
}

func (f *rules) ListBindings(context.Context, *identity.Caller, string) (out []*model.PortBinding, err error) {
	for _, b := range f.bindings {
		out = append(out, b)
	}
	return out, nil
}

func (f *rules) ShowBinding(_ context.Context, _ *identity.Caller, _, host string) (*model.PortBinding, error) {
	b, ok := f.bindings[host]
	if !ok {
		return nil, neutron.NotFound("PortBindingNotFound", "Binding for port could not be found.")
	}
	return b, nil
}

func (f *rules) CreateBinding(_ context.Context, _ *identity.Caller, _ string, in *resource.Input[model.PortBinding]) (*model.PortBinding, error) {
	b := in.Value
	b.Status, b.VIFType = model.BindingInactive, model.VIFOVS
	f.bindings[b.Host] = &b
	return &b, nil
}

func (f *rules) UpdateBinding(_ context.Context, _ *identity.Caller, _, host string, in *resource.Input[model.PortBinding]) (*model.PortBinding, error) {
	model.PortBindings.Apply(f.bindings[host], in)
	return f.bindings[host], nil
}

func (f *rules) ActivateBinding(_ context.Context, _ *identity.Caller, _, host string) (*model.PortBinding, error) {
	f.bindings[host].Status = model.BindingActive
	return f.bindings[host], nil
}

func (f *rules) DeleteBinding(_ context.Context, _ *identity.Caller, _, host string) error {
	delete(f.bindings, host)
	return nil
}

func (f *rules) IPAvailabilities(r store.Read, _ *identity.Caller) (out []*model.IPAvailability) {
	huge := new(big.Int).Lsh(big.NewInt(1), 64)
	for n := range store.All(r, model.NetworkTable) {
		out = append(out, &model.IPAvailability{
			NetworkID: n.ID, NetworkName: n.Name, ProjectID: n.ProjectID, UsedIPs: 3, TotalIPs: new(big.Int).Add(huge, big.NewInt(253)),
			Subnets: []model.SubnetIPAvailability{
				{SubnetID: "s4", SubnetName: "four", IPVersion: 4, TotalIPs: big.NewInt(253), UsedIPs: 2},
				{SubnetID: "s6", SubnetName: "six", IPVersion: 6, TotalIPs: huge, UsedIPs: 1},
			},
		})
	}
	return out
}

func (f *rules) IPAvailabilityOf(r store.Read, c *identity.Caller, id string) (*model.IPAvailability, bool) {
	for _, a := range f.IPAvailabilities(r, c) {
		if string(a.NetworkID) == id {
			return a, true
		}
	}
	return nil, false
}

// tokens is an authenticator that knows: "admin" (project p1), "nova" (service), "system" (admin without a project), and
// "<name>@<project>" for members.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, r *http.Request) (*identity.Caller, error) {
	admin := []string{identity.RoleAdmin, identity.RoleManager, identity.RoleMember, identity.RoleReader}
	switch token := r.Header.Get("X-Auth-Token"); {
	case token == "admin":
		return &identity.Caller{UserID: "admin", ProjectID: "p1", Roles: admin}, nil
	case token == "system":
		return &identity.Caller{UserID: "admin", System: true, Roles: admin}, nil
	case token == "nova":
		return &identity.Caller{UserID: "nova", ProjectID: "service", Roles: []string{identity.RoleService}}, nil
	case token == "down":
		return nil, fmt.Errorf("ask identity service: %w", io.ErrUnexpectedEOF)
	case strings.Contains(token, "@"):
		user, project, _ := strings.Cut(token, "@")
		return &identity.Caller{UserID: user, ProjectID: project, Roles: []string{identity.RoleMember, identity.RoleReader}}, nil
	}
	return nil, &identity.UnauthorizedError{URI: "http://idp:5000", Reason: "no token"}
}

// bench is a handler over the fake rules and a real store.
type bench struct {
	t *testing.T
	*rules
	h http.Handler
}

func newBench(t *testing.T, change func(*Config)) *bench {
	st := storetest.New(t, model.NetworkTable, model.SubnetTable, model.PortTable, model.AgentTable,
		model.SecurityGroupTable, model.SecurityGroupRuleTable, model.AddressGroupTable, model.DefaultRuleTable)
	f := &rules{st: st, limits: map[string]map[string]int{}, bindings: map[string]*model.PortBinding{}, hosted: map[string]bool{}, shared: map[model.ID]bool{}}
	never := func(*model.Port) bool { return false }
	c := Config{Store: st, Auth: tokens{}, Services: Services{
		Networks:      kindOf(f, model.Networks, func(n *model.Network) *model.Standard { return &n.Standard }, func(n *model.Network) bool { return f.shared[n.ID] }),
		Subnets:       kindOf(f, model.Subnets, func(s *model.Subnet) *model.Standard { return &s.Standard }, func(*model.Subnet) bool { return false }),
		Ports:         kindOf(f, model.Ports, func(p *model.Port) *model.Standard { return &p.Standard }, never),
		Segments:      kindOf(f, model.Segments, func(s *model.NetworkSegment) *model.Standard { return &s.Standard }, func(*model.NetworkSegment) bool { return false }),
		SegmentRanges: kindOf(f, model.SegmentRanges, func(r *model.SegmentRange) *model.Standard { return &r.Standard }, func(*model.SegmentRange) bool { return false }),
		RBACPolicies:  kindOf(f, model.RBACPolicies, func(p *model.RBACPolicy) *model.Standard { return &p.Standard }, func(*model.RBACPolicy) bool { return false }),
		SecurityGroups: kindOf(f, model.SecurityGroups, func(g *model.SecurityGroup) *model.Standard { return &g.Standard },
			func(*model.SecurityGroup) bool { return false }),
		SecurityGroupRules: kindOf(f, model.SecurityGroupRules, func(r *model.SecurityGroupRule) *model.Standard { return &r.Standard },
			func(*model.SecurityGroupRule) bool { return false }),
		AddressGroups: kindOf(f, model.AddressGroups, func(g *model.AddressGroup) *model.Standard { return &g.Standard },
			func(*model.AddressGroup) bool { return false }),
		DefaultRules: kindOf(f, model.DefaultRules, func(r *model.DefaultRule) *model.Standard { return &r.Standard },
			func(*model.DefaultRule) bool { return true }),
		QoSPolicies: kindOf(f, model.QoSPolicies, func(p *model.QoSPolicy) *model.Standard { return &p.Standard },
			func(p *model.QoSPolicy) bool { return p.Shared }),
		Trunks:   kindOf(f, model.Trunks, func(t *model.Trunk) *model.Standard { return &t.Standard }, func(*model.Trunk) bool { return false }),
		QoSRules: struct{ noRules }{}, SubPorts: struct{ noSubPorts }{},
		Agents: &neutron.Kind[model.Agent]{
			Def:     model.Agents,
			Visible: func(_ store.Read, c *identity.Caller, _ *model.Agent) bool { return c.IsAdmin() },
			Present: func(_ store.Read, _ *identity.Caller, row *model.Agent) *model.Agent {
				shown := *row
				shown.Alive = true
				return &shown
			},
			Update: func(ctx context.Context, _ *identity.Caller, id string, in *resource.Input[model.Agent], _ *int64) (*model.Agent, error) {
				return nil, notFound("agent", id)
			},
			Delete: func(_ context.Context, _ *identity.Caller, id string, _ *int64) error { return notFound("agent", id) },
		},
		Addresses: f, Tags: f, Quotas: f, DHCP: f, Bindings: f, IPAvailability: f, Zones: f,
	}}
	c.Services.SecurityGroupRules.Update, c.Services.DefaultRules.Update = nil, nil
	if change != nil {
		change(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, rules: f, h: h}
}

// reply is an answer, decoded.
type reply struct {
	code   int
	header http.Header
	text   string
	body   map[string]any
}

// do sends a request with the token; headers are "Name: value".
func (b *bench) do(token, method, url, body string, headers ...string) reply {
	b.t.Helper()
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	if body == "" {
		r = httptest.NewRequest(method, url, nil)
	}
	r.Header.Set("X-Auth-Token", token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	out := reply{code: w.Code, header: w.Header(), text: w.Body.String()}
	if out.text != "" {
		dec := json.NewDecoder(w.Body)
		if err := dec.Decode(&out.body); err != nil {
			b.t.Fatalf("%s %s: answer is no JSON object: %v\n%s", method, url, err, out.text)
		}
	}
	return out
}

// ok is do with the admin's token, which must answer the code.
func (b *bench) ok(code int, method, url, body string, headers ...string) reply {
	b.t.Helper()
	r := b.do("admin", method, url, body, headers...)
	if r.code != code {
		b.t.Fatalf("%s %s: %d, want %d\n%s", method, url, r.code, code, r.text)
	}
	return r
}

// fault is the type and message of an error answer.
func (r reply) fault() (typ, message string) {
	e, _ := r.body["NeutronError"].(map[string]any)
	typ, _ = e["type"].(string)
	message, _ = e["message"].(string)
	return typ, message
}

// names are the values of an attribute of a list.
func (r reply) column(plural, attr string) []string {
	list, _ := r.body[plural].([]any)
	out := []string{}
	for _, row := range list {
		out = append(out, fmt.Sprint(row.(map[string]any)[attr]))
	}
	return out
}

// field is an attribute of a single object.
func (r reply) field(singular, attr string) any {
	one, _ := r.body[singular].(map[string]any)
	return one[attr]
}

func (f *rules) Zones(store.Read) []*model.AvailabilityZone {
	return []*model.AvailabilityZone{
		{Name: "az1", Resource: model.ZoneNetwork, State: model.ZoneAvailable},
		{Name: "az2", Resource: model.ZoneNetwork, State: model.ZoneUnavailable},
	}
}

// The rules of QoS policies and the subports of trunks are not faked: their routes are only listed here.
type (
	noRules    QoSRules
	noSubPorts SubPorts
)
