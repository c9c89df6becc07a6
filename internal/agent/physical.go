package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"baryon/internal/agent/l2"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
)

// Physical is which physical networks a node is attached to, and how.
type Physical struct {
	Mappings map[string]string // physical network → bridge
	NICs     map[string]string // bridge → NIC that the agent puts into it; a bridge that is there is used as it is
}

// ParseMappings reads bridge mappings as Neutron writes them: "public:br-ex".
func ParseMappings(list []string) (map[string]string, error) {
	return pairs(list, ":", "physical network")
}

// ParseNICs reads the NICs of bridges: "br-ex=eth1".
func ParseNICs(list []string) (map[string]string, error) { return pairs(list, "=", "bridge") }

func pairs(list []string, separator, what string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(strings.TrimSpace(s), separator)
		if !ok || k == "" || v == "" {
			return nil, fmt.Errorf("%q: must look like a%sb", s, separator)
		}
		if _, twice := out[k]; twice {
			return nil, fmt.Errorf("%s %s stands twice", what, k)
		}
		out[k] = v
	}
	return out, nil
}

// Check tells what is wrong with it whatever the node looks like, everything at once.
func (p Physical) Check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	users, patches, bridges := map[string]string{}, map[string]string{}, map[string]string{}
	for _, physical := range sortedKeys(p.Mappings) {
		bridge := p.Mappings[physical]
		if physical == "" || len(physical) > 64 || strings.ContainsAny(physical, ":,= \t\n") {
			bad("physical network %q: must be 1 to 64 characters without colon, comma, equals sign and blanks", physical)
		}
		if err := names.CheckDevice(bridge); err != nil {
			bad("bridge of physical network %s: %w", physical, err)
			continue
		}
		if bridge == names.BrInt || bridge == names.BrTun || strings.HasPrefix(bridge, names.TrunkPrefix) {
			bad("bridge of physical network %s: %s is the agent's own", physical, bridge)
		}
		if other, taken := users[bridge]; taken {
			bad("physical networks %s and %s are both mapped to bridge %s: each needs its own", other, physical, bridge)
			continue
		}
		users[bridge] = physical
		if other, taken := patches[names.IntPatch(bridge)]; taken {
			bad("bridges %s and %s would have the same patch port %s", other, bridge, names.IntPatch(bridge))
		}
		patches[names.IntPatch(bridge)] = bridge
	}
	for _, bridge := range sortedKeys(p.NICs) {
		nic := p.NICs[bridge]
		if users[bridge] == "" {
			bad("NIC %s: no physical network is mapped to bridge %s", nic, bridge)
		}
		if err := names.CheckDevice(nic); err != nil {
			bad("NIC of bridge %s: %w", bridge, err)
		}
		if users[nic] != "" {
			bad("%s cannot be a bridge and the NIC of bridge %s", nic, bridge)
		}
		if other, taken := bridges[nic]; taken {
			bad("NIC %s cannot be in bridges %s and %s", nic, other, bridge)
		}
		bridges[nic] = bridge
	}
	return errors.Join(errs...)
}

// Equal tells whether two are the same.
func (p Physical) Equal(o Physical) bool {
	return maps.Equal(p.Mappings, o.Mappings) && maps.Equal(p.NICs, o.NICs)
}

// physical is what the loop knows of the provider bridges.
type physical struct {
	bridges  []ovsdb.Bridge    // wanted, sorted by name
	networks map[string]string // bridge → physical network
	patches  map[string]string // patch port → bridge
	unusable map[string]string // bridge → why not
	refused  map[string]string // bridge → why Open vSwitch does not make it
	raised   map[string]bool   // NICs that have been brought up
}

// adopt takes in which physical networks there are.  What stays as it was is not touched.
func (a *agent) adopt(p Physical) {
	old := a.cfg.Physical
	a.cfg.Physical = Physical{Mappings: maps.Clone(p.Mappings), NICs: maps.Clone(p.NICs)}
	ph := physical{networks: map[string]string{}, patches: map[string]string{}, unusable: map[string]string{}, refused: map[string]string{}, raised: map[string]bool{}}
	for network, bridge := range p.Mappings {
		ph.networks[bridge] = network
		ph.patches[names.IntPatch(bridge)], ph.patches[names.PhyPatch(bridge)] = bridge, bridge
		if why, ok := a.physical.unusable[bridge]; ok {
			ph.unusable[bridge] = why
		}
	}
	for _, bridge := range sortedKeys(ph.networks) {
		b := a.ofBridge(bridge)
		b.ExternalIDs = map[string]string{ovsdb.KeyProvider: ph.networks[bridge]}
		ph.bridges = append(ph.bridges, b)
		if a.br[bridge] == nil {
			a.br[bridge] = newBridge(bridge, filepath.Join(a.cfg.OVSRunDir, bridge+".mgmt"), a.loop.Dirty, a.settleOwner)
			if a.confirmed {
				a.br[bridge].flows.Release()
				a.br[bridge].meters.Release()
			}
		}
	}
	for bridge := range a.physical.networks {
		if ph.networks[bridge] == "" {
			a.br[bridge].close()
			delete(a.br, bridge)
		}
	}
	a.physical = ph
	for bridge, nic := range old.NICs {
		if p.NICs[bridge] != nic {
			delete(a.ports, nic)
			a.dropped[nic], a.dirtyPorts[nic] = true, true
		}
	}
	a.tellMappings()
	for bridge := range ph.networks {
		a.takePatch(bridge)
	}
}

// tellMappings tells the engine which physical networks can be used.
func (a *agent) tellMappings() {
	unusable := map[string]string{}
	for bridge, why := range a.physical.unusable {
		unusable[a.physical.networks[bridge]] = why
	}
	a.engine.Map(a.cfg.Physical.Mappings, unusable)
}

// takePatch tells the engine of the patch ports of a provider bridge.
func (a *agent) takePatch(bridge string) {
	l := l2.Link{Joined: true}
	number := func(name, on, peer string) int {
		v, ok := a.ovs.Port(name)
		if !ok || v.Bridge != on || v.Type != "patch" {
			l.Joined = false
			return 0
		}
		l.Joined = l.Joined && v.Options["peer"] == peer
		return max(v.OFPort, 0)
	}
	inner, outer := names.IntPatch(bridge), names.PhyPatch(bridge)
	l.Int, l.Phy = number(inner, names.BrInt, outer), number(outer, bridge, inner)
	a.engine.Join(bridge, l)
}

// applyPhysical makes the provider bridges and puts their NICs into them, and gives back those that carry no physical network of ours
// any more.  A bridge that cannot be had holds nothing else up: its networks' records say why.
func (a *agent) applyPhysical(ctx context.Context) error {
	if err := a.giveBack(ctx); err != nil {
		return err
	}
	now := map[string]string{}
	for _, b := range a.physical.bridges {
		why, err := a.applyProvider(ctx, b)
		if err != nil {
			return err
		}
		if why == "" {
			why = a.physical.refused[b.Name]
		}
		if why != "" {
			now[b.Name] = why
		}
	}
	for bridge, why := range now {
		if a.physical.unusable[bridge] != why {
			a.log.Error("a physical network cannot be used", "network", a.physical.networks[bridge], "bridge", bridge, "err", why)
		}
	}
	for bridge := range a.physical.unusable {
		if now[bridge] == "" {
			a.log.Info("physical network can be used", "network", a.physical.networks[bridge], "bridge", bridge)
		}
	}
	if !maps.Equal(now, a.physical.unusable) {
		a.physical.unusable = now
		a.tellMappings()
	}
	return nil
}

// giveBack releases bridges that were ours to program and are not any more.
func (a *agent) giveBack(ctx context.Context) error {
	var plan ovsdb.Plan
	for _, name := range a.ovs.BridgeNames() {
		v, ok := a.ovs.Bridge(name)
		if !ok || v.ExternalIDs[ovsdb.KeyProvider] == "" || a.physical.networks[name] != "" {
			continue
		}
		plan.Release = append(plan.Release, a.ofBridge(name))
		// In the same transaction: nothing may cross once the bridge's flows have gone.
		plan.Remove = append(plan.Remove, names.IntPatch(name), names.PhyPatch(name))
		a.log.Info("bridge carries no physical network any more", "bridge", name)
	}
	if plan.Empty() {
		return nil
	}
	return a.transact(ctx, plan)
}

// applyProvider makes one provider bridge, or says why it cannot be used.
func (a *agent) applyProvider(ctx context.Context, b ovsdb.Bridge) (why string, err error) {
	have, there := a.ovs.Bridge(b.Name)
	nic := a.cfg.Physical.NICs[b.Name]
	add, why, err := a.nicOf(b.Name, nic)
	if why != "" || err != nil {
		return why, err
	}
	switch {
	case there && have.DatapathType != a.datapath && !(have.DatapathType == "" && a.datapath == ovsdb.DatapathKernel):
		return fmt.Sprintf("bridge %s has datapath type %q, %s has %q: they cannot be joined", b.Name, have.DatapathType, names.BrInt, a.datapath), nil
	case !there && nic == "":
		if index, err := a.root.Index(b.Name); err != nil || index != 0 {
			return fmt.Sprintf("%s is a network device of this node, not a bridge of Open vSwitch", b.Name), err
		}
		return fmt.Sprintf("bridge %s does not exist on this node, and no NIC is given to make it with", b.Name), nil
	case !there:
		if index, err := a.root.Index(b.Name); err != nil || index != 0 {
			return fmt.Sprintf("bridge %s cannot be made: a network device of this node has that name", b.Name), err
		}
		dev, _, err := a.root.NIC(nic)
		if err != nil {
			return "", err
		}
		b.DatapathType = a.datapath
		b.OtherConfig = maps.Clone(b.OtherConfig)
		b.OtherConfig["hwaddr"] = dev.MAC.String() // without it the address changes with the ports that come and go
	default:
		b.DatapathType = have.DatapathType
	}
	if have.OtherConfig["datapath-id"] == "" {
		// Open vSwitch makes it from a MAC, and two bridges on VLANs of one NIC have the same.
		b.OtherConfig = maps.Clone(b.OtherConfig)
		b.OtherConfig["datapath-id"] = datapathID(a.cfg.Host, b.Name)
	}
	var plan ovsdb.Plan
	if a.ovs.NeedsBridge(b) {
		plan.Bridges = append(plan.Bridges, b)
	}
	if add {
		if err := a.root.Raise(nic); err != nil {
			return err.Error(), nil
		}
		plan.Ports = append(plan.Ports, a.ports[nic])
		delete(a.dirtyPorts, nic)
	}
	delete(a.physical.refused, b.Name)
	if plan.Empty() {
		return "", nil
	}
	err = a.transact(ctx, plan)
	var refused *ovsdb.RefusedError
	if errors.As(err, &refused) {
		a.physical.refused[b.Name] = err.Error()
		return err.Error(), nil
	}
	return "", err
}

// nicOf tells whether a NIC has still to be put into its bridge, or why it must not.
func (a *agent) nicOf(bridge, nic string) (add bool, why string, err error) {
	if nic == "" {
		return false, "", nil
	}
	if v, ok := a.ovs.Port(nic); ok {
		if v.Bridge != bridge {
			return false, fmt.Sprintf("NIC %s is a port of bridge %s", nic, v.Bridge), nil
		}
		if v.Ours {
			a.ports[nic] = ovsdb.Port{Name: nic, Bridge: bridge, Options: v.Options}
			if !a.physical.raised[nic] { // after a reboot nobody else does; later it is the operator's to take it down
				a.physical.raised[nic] = true
				if err := a.root.Raise(nic); err != nil {
					a.log.Warn("cannot bring the NIC of a bridge up", "bridge", bridge, "nic", nic, "err", err)
				}
			}
		}
		return false, "", nil
	}
	if why, err = CheckNIC(a.root, nic); why != "" || err != nil {
		delete(a.ports, nic)
		return false, why, err
	}
	a.ports[nic] = ovsdb.Port{Name: nic, Bridge: bridge, Options: map[string]string{}}
	return true, "", nil
}

// CheckNIC says why a device must not simply be put into a bridge, or that nothing is there; empty: it may.
func CheckNIC(ns *rtnl.Namespace, nic string) (why string, err error) {
	dev, there, err := ns.NIC(nic)
	switch {
	case err != nil:
		return "", err
	case !there:
		return fmt.Sprintf("NIC %s does not exist on this node", nic), nil
	case dev.Loopback || dev.Kind == "bridge" || dev.Kind == "openvswitch":
		return fmt.Sprintf("%s is no NIC (it is of kind %s)", nic, dev.Kind), nil
	case dev.Master:
		return fmt.Sprintf("NIC %s is a port of another device already", nic), nil
	case dev.Default:
		return fmt.Sprintf("NIC %s carries the default route: a bridge would cut the node off; \"baryon agent bridge-nic\" takes it in with its addresses and routes", nic), nil
	case len(dev.Addresses) > 0:
		return fmt.Sprintf("NIC %s has addresses (%s): they would not work in a bridge; \"baryon agent bridge-nic\" takes it in with its addresses and routes",
			nic, dev.Addresses[0]), nil
	}
	return "", nil
}

// wantedPort is a wanted port as it has to be now: the patch ports of a provider bridge lead nowhere until the flows that drop what is of no
// network stand on both sides.  Ports that are joined already stay joined.
func (a *agent) wantedPort(name string) (ovsdb.Port, bool) {
	want, ok := a.ports[name]
	bridge := a.physical.patches[name]
	if !ok || bridge == "" {
		return want, ok
	}
	if have, there := a.ovs.Port(name); there && have.Bridge == want.Bridge && have.Options["peer"] == want.Options["peer"] || a.sealed(bridge) {
		return want, ok
	}
	want.Options = map[string]string{"peer": unjoined}
	return want, ok
}

// unjoined is the peer of a patch port that leads nowhere yet.
const unjoined = "nonexistent-peer"

// sealed says that the flows of a provider bridge which drop are in the switch.
func (a *agent) sealed(bridge string) bool {
	flows, ok := a.engine.Sealed(bridge)
	if !ok {
		return false
	}
	for name, k := range flows {
		b := a.br[name]
		if b == nil || !b.loaded {
			return false
		}
		if _, there := b.flows.Actual(k); !there {
			return false
		}
	}
	return true
}

// join has the patch ports joined of those provider bridges that are sealed now.
func (a *agent) join() {
	for name, bridge := range a.physical.patches {
		if v, ok := a.ovs.Port(name); ok && v.Options["peer"] == unjoined && a.sealed(bridge) {
			a.dirtyPorts[name] = true
			a.loop.Dirty()
		}
	}
}

// usable lists the provider bridges that can be used.
func (a *agent) usable() []string {
	var out []string
	for _, b := range a.physical.bridges {
		if a.physical.unusable[b.Name] == "" {
			out = append(out, b.Name)
		}
	}
	return out
}

// unusable says which physical networks cannot be used and why; empty: all can.
func (a *agent) unusable() string {
	var list []string
	for _, bridge := range sortedKeys(a.physical.unusable) {
		list = append(list, "physical network "+a.physical.networks[bridge]+": "+a.physical.unusable[bridge])
	}
	return strings.Join(list, "; ")
}

// reloadTimeout bounds a reload.
const reloadTimeout = 10 * time.Second

// Reload reads the configuration again and applies what has changed of the physical networks.  What is wrong with it is told, and then nothing
// changes.
func (p *provider) Reload(ctx context.Context) error {
	a := (*agent)(p)
	if a.cfg.Reload == nil {
		return errors.New("reload: the agent was started without a configuration file")
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	next, err := a.cfg.Reload(ctx)
	if err == nil {
		err = next.Check()
	}
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	var fault error
	err = p.ask(ctx, func() {
		if next.Equal(a.cfg.Physical) {
			return
		}
		if fault = a.tryPhysical(next); fault != nil {
			return
		}
		a.log.Info("physical networks have changed", "mappings", fmt.Sprint(next.Mappings), "nics", fmt.Sprint(next.NICs))
		a.adopt(next)
		a.cfg.Source.SetInfo(a.info())
		a.loop.Dirty()
	})
	if err := errors.Join(err, fault); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// tryPhysical tells what of a new configuration cannot be had on this node as it is now.
func (a *agent) tryPhysical(next Physical) error {
	var errs []error
	for _, bridge := range next.Mappings {
		if _, there := a.ovs.Bridge(bridge); there || !a.ovsUp {
			continue
		}
		if index, err := a.root.Index(bridge); err == nil && index != 0 {
			errs = append(errs, fmt.Errorf("bridge %s: a network device of this node has that name", bridge))
		} else if next.NICs[bridge] == "" {
			errs = append(errs, fmt.Errorf("bridge %s does not exist, and no NIC is given to make it with", bridge))
		}
	}
	for bridge, nic := range next.NICs {
		if v, ok := a.ovs.Port(nic); ok {
			if v.Bridge != bridge && a.cfg.Physical.NICs[v.Bridge] != nic {
				errs = append(errs, fmt.Errorf("NIC %s is a port of bridge %s", nic, v.Bridge))
			}
			continue
		}
		if why, err := CheckNIC(a.root, nic); why != "" || err != nil {
			errs = append(errs, errors.Join(err, errors.New(why)))
		}
	}
	slices.SortFunc(errs, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(errs...)
}

// datapathID is a bridge's, of 16 hexadecimal digits.
func datapathID(host, bridge string) string {
	h := fnv.New64a()
	h.Write([]byte(host + "/" + bridge))
	return fmt.Sprintf("%016x", h.Sum64()|1)
}

// joinable says that a provider bridge is there and can be used: only then do its patch ports make sense.
func (a *agent) joinable(bridge string) bool {
	_, there := a.ovs.Bridge(bridge)
	return there && a.physical.unusable[bridge] == ""
}
