// Package conformance_test drives the Networking API with gophercloud, as Terraform and other tools do: API, rules and store are the
// real ones, in one process.
package conformance_test

import (
	"context"
	"net/http/httptest"
	"net/netip"
	"testing"

	"baryon/internal/api"
	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/store/storetest"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

// world is an API on a loopback port and a client for it.
type world struct {
	t     *testing.T
	ctx   context.Context
	rules *neutron.Service
	url   string
	*gophercloud.ServiceClient
}

func newWorld(t *testing.T, edit ...func(*neutron.Config)) *world {
	t.Helper()
	st := storetest.New(t, model.AllTables()...)
	cfg := neutron.Config{Store: st, DNSDomain: "example.org."}
	for _, f := range edit {
		f(&cfg)
	}
	rules, err := neutron.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rules.Close)
	h, err := api.New(api.Config{Store: st, Auth: identity.None{}, Services: api.Services{
		Networks: rules.Networks(), Subnets: rules.Subnets(), Ports: rules.Ports(), Agents: rules.Agents(),
		Segments: rules.Segments(), SegmentRanges: rules.SegmentRanges(), RBACPolicies: rules.RBACPolicies(),
		SecurityGroups: rules.SecurityGroups(), SecurityGroupRules: rules.SecurityGroupRules(),
		AddressGroups: rules.AddressGroups(), DefaultRules: rules.DefaultRules(), Addresses: rules,
		QoSPolicies: rules.QoSPolicies(), QoSRules: rules, Trunks: rules.Trunks(), SubPorts: rules,
		Tags: rules, Quotas: rules, DHCP: rules, Bindings: rules, IPAvailability: rules, Zones: rules,
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	w := &world{t: t, ctx: t.Context(), rules: rules, url: srv.URL}
	w.ServiceClient = w.as("", "")
	return w
}

// as is a client that acts for a project with the roles; empty: as the administrator.
func (w *world) as(project, roles string) *gophercloud.ServiceClient {
	c := &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{}, Endpoint: w.url + "/", ResourceBase: w.url + "/v2.0/", Type: "network",
	}
	if project != "" {
		c.MoreHeaders = map[string]string{"X-Project-Id": project, "X-Roles": roles}
	}
	return c
}

// node registers a host that runs an agent.
func (w *world) node(host, ip string, roles ...string) {
	w.t.Helper()
	err := w.rules.RegisterNode(w.ctx, nodestate.NodeInfo{
		Host: host, Roles: roles, TunnelIP: netip.MustParseAddr(ip), TunnelTypes: []string{"vxlan", "gre"}, DatapathType: "netdev",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.rules.Heartbeat(w.ctx, host); err != nil {
		w.t.Fatal(err)
	}
}

// must fails the test on an error.
func must[V any](t *testing.T) func(v V, err error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused checks that an error is the answer of the code.
func (w *world) refused(code int, err error) {
	w.t.Helper()
	if !gophercloud.ResponseCodeIs(err, code) {
		w.t.Errorf("error %v, want %d", err, code)
	}
}

func (w *world) network(name string) *networks.Network {
	w.t.Helper()
	return must[*networks.Network](w.t)(networks.Create(w.ctx, w.ServiceClient, networks.CreateOpts{Name: name}).Extract())
}

func (w *world) subnet(network, cidr string) *subnets.Subnet {
	w.t.Helper()
	version := gophercloud.IPv4
	if netip.MustParsePrefix(cidr).Addr().Is6() {
		version = gophercloud.IPv6
	}
	return must[*subnets.Subnet](w.t)(subnets.Create(w.ctx, w.ServiceClient, subnets.CreateOpts{NetworkID: network, CIDR: cidr, IPVersion: version}).Extract())
}
