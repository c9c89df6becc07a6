package neutron_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// zoneNode registers a living network node in an availability zone.
func (e *env) zoneNode(host, ip, zone string) {
	e.t.Helper()
	err := e.svc.RegisterNode(e.ctx, nodestate.NodeInfo{
		Host: host, Roles: []string{model.RoleNetwork}, TunnelIP: netip.MustParseAddr(ip), TunnelTypes: []string{"vxlan"}, AvailabilityZone: zone,
		DatapathType: "netdev",
	})
	if err == nil {
		err = e.svc.Heartbeat(e.ctx, host)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

func TestAvailabilityZones(t *testing.T) {
	e := newEnv(t, unlimited)
	_, err := e.network(alice, model.Network{AvailabilityZoneHints: []string{"b"}})
	wantError(t, err, neutron.ClassNotFound, "AvailabilityZoneNotFound", "AvailabilityZone b could not be found.")
	e.zoneNode("h1", "192.0.2.1", "a")
	e.zoneNode("h2", "192.0.2.2", "b")
	e.zoneNode("h3", "192.0.2.3", "")
	for i := range 4 { // without hints they would spread
		n := must(e.network(alice, model.Network{AvailabilityZoneHints: []string{"b"}}))(t)
		must(e.subnet(alice, v4(n, fmt.Sprintf("10.0.%d.0/24", i))))(t)
		if err := e.st.View(e.ctx, func(r store.Read) error {
			n, _ := store.Get(r, model.NetworkTable, string(n.ID))
			shown := e.svc.Networks().Present(r, alice, n)
			if !slices.Equal(shown.AvailabilityZones, []string{"b"}) || !slices.Equal(shown.AvailabilityZoneHints, []string{"b"}) {
				t.Errorf("served in %v, hints %v", shown.AvailabilityZones, shown.AvailabilityZoneHints)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, z := range e.svc.Zones(e.st.Snapshot()) {
		got = append(got, z.Name+" "+z.Resource+" "+z.State)
	}
	if !slices.Equal(got, []string{"a network available", "b network available", "nova network available"}) {
		t.Errorf("zones %q", got)
	}
}

func TestDefaultExternalNetwork(t *testing.T) {
	e := newEnv(t)
	update := func(id model.ID, v model.Network, given ...string) (*model.Network, error) {
		return e.svc.Networks().Update(e.ctx, admin, string(id), resource.NewInput(v, given...), nil)
	}
	_, err := e.network(alice, model.Network{IsDefault: true})
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_network:is_default")
	_, err = e.network(admin, model.Network{IsDefault: true})
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "is_default needs router:external")
	first := must(e.network(admin, model.Network{External: true, IsDefault: true}))(t)
	_, err = e.network(admin, model.Network{External: true, IsDefault: true})
	wantError(t, err, neutron.ClassConflict, "DefaultExternalNetworkExists", "A default external network already exists: "+string(first.ID))
	second := must(e.network(admin, model.Network{External: true}))(t)
	_, err = update(second.ID, model.Network{IsDefault: true}, "is_default")
	wantError(t, err, neutron.ClassConflict, "DefaultExternalNetworkExists", string(first.ID))
	must(update(first.ID, model.Network{IsDefault: true}, "is_default"))(t) // it is already
	if n := must(update(first.ID, model.Network{}, "router:external"))(t); n.IsDefault {
		t.Error("an internal network is the default external one")
	}
	must(update(second.ID, model.Network{IsDefault: true}, "is_default"))(t)
	if n := must(update(second.ID, model.Network{}, "is_default"))(t); n.IsDefault || !n.External {
		t.Errorf("is_default %t, external %t", n.IsDefault, n.External)
	}
}

func TestSharedSubnets(t *testing.T) {
	e := newEnv(t)
	_, own := e.simple(alice, "10.0.0.0/24")
	n := must(e.network(admin, model.Network{Shared: true}))(t)
	sub := must(e.subnet(admin, v4(n, "10.0.1.0/24")))(t)
	if own.Shared || !sub.Shared {
		t.Errorf("shared: own %t, of the shared network %t", own.Shared, sub.Shared)
	}
}

// TestOtherVNICTypes: such ports can be made, but our switch does not carry them.
func TestOtherVNICTypes(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(admin, "10.0.0.0/24")
	e.zoneNode("h1", "192.0.2.1", "")
	for vnic, want := range map[string]string{"normal": model.VIFOVS, "direct": model.VIFBindingFailed, "baremetal": model.VIFBindingFailed} {
		p := must(e.port(admin, model.Port{NetworkID: n.ID, Binding: model.Binding{Host: "h1", VNICType: vnic}}))(t)
		if p.Binding.VIFType != want || p.Binding.VNICType != vnic {
			t.Errorf("%s: %+v", vnic, p.Binding)
		}
	}
}
