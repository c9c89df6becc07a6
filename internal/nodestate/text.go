package nodestate

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Compare orders keys by kind, then id.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(string(k.Kind), string(o.Kind)), strings.Compare(k.ID, o.ID))
}

// Sort orders records by key, in place.
func Sort(records []Record) {
	slices.SortFunc(records, func(a, b Record) int { return a.Key().Compare(b.Key()) })
}

// SortKeys orders keys, in place.
func SortKeys(keys []Key) { slices.SortFunc(keys, Key.Compare) }

// Equal tells whether two records say the same.  nil equals only nil; an empty list equals a missing one.
func Equal(a, b Record) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a) == reflect.TypeOf(b) && Text(a) == Text(b)
}

// Diff tells what turns the record set old into new: records that are new or say something else, and keys that are gone, both in
// key order.  Of several records with one key the last counts.
func Diff(old, new []Record) (upserts []Record, deletes []Key) {
	have, want := byKey(old), byKey(new)
	for k, r := range want {
		if !Equal(have[k], r) {
			upserts = append(upserts, r)
		}
	}
	for k := range have {
		if want[k] == nil {
			deletes = append(deletes, k)
		}
	}
	Sort(upserts)
	SortKeys(deletes)
	return upserts, deletes
}

// Apply changes a record set as an Update asks: a Complete one replaces it, unless Cached, which only adds.
func Apply(set map[Key]Record, u Update) {
	if u.Complete && !u.Cached {
		clear(set)
	}
	for _, k := range u.Deletes {
		delete(set, k)
	}
	for _, r := range u.Upserts {
		set[r.Key()] = r
	}
}

func byKey(records []Record) map[Key]Record {
	m := make(map[Key]Record, len(records))
	for _, r := range records {
		if r != nil {
			m[r.Key()] = r
		}
	}
	return m
}

// Dump writes one line per record, in key order: the form that people and golden files read.
func Dump(w io.Writer, records []Record) error {
	sorted := slices.Clone(records)
	Sort(sorted)
	var b bytes.Buffer
	for _, r := range sorted {
		b.WriteString(Text(r))
		b.WriteByte('\n')
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write record dump: %w", err)
	}
	return nil
}

// Text is a record on one line: its key and then name=value pairs.  Empty values are left out, texts that hold anything but
// plain characters are quoted, so that different records never print alike.  Lists keep their order, maps print by key.
func Text(r Record) string {
	if r == nil {
		return ""
	}
	l := &line{}
	l.b.WriteString(word(r.Key().String()))
	switch v := r.(type) {
	case *Network:
		l.network(v)
	case *Port:
		l.port(v)
	case *Peers:
		l.peers(v)
	case *DHCP:
		l.dhcp(v)
	case *DHCPHost:
		l.dhcpHost(v)
	case *Group:
		l.group(v)
	case *Members:
		for _, p := range v.Prefixes {
			l.pair("member", prefix(p))
		}
	case *Trunk:
		l.trunk(v)
	default:
		fmt.Fprintf(&l.b, " %+v", r)
	}
	return l.b.String()
}

type line struct{ b strings.Builder }

func (l *line) pair(name, value string) {
	if value == "" {
		return
	}
	l.b.WriteByte(' ')
	l.b.WriteString(name)
	l.b.WriteByte('=')
	l.b.WriteString(value)
}

func (l *line) word(name, value string) { l.pair(name, word(value)) }

func (l *line) number(name string, v int64) {
	if v != 0 {
		l.pair(name, strconv.FormatInt(v, 10))
	}
}

func (l *line) flag(name string, on bool) {
	if on {
		l.b.WriteByte(' ')
		l.b.WriteString(name)
	}
}

func (l *line) network(n *Network) {
	l.word("name", n.Name)
	l.word("type", n.Type)
	l.word("physnet", n.PhysicalNetwork)
	l.number("segment", int64(n.SegmentationID))
	l.number("mtu", int64(n.MTU))
	for _, s := range n.More {
		l.pair("more", word(s.Type)+","+word(s.PhysicalNetwork)+","+strconv.FormatUint(uint64(s.SegmentationID), 10))
	}
}

func (l *line) port(p *Port) {
	l.word("network", p.NetworkID)
	l.word("name", p.Name)
	l.pair("mac", p.MAC.String())
	for _, a := range p.Addresses {
		l.pair("ip", joined(prefix(a.Prefix), word(a.SubnetID)))
	}
	for _, a := range p.AllowedPairs {
		l.pair("allowed", a.MAC.String()+","+prefix(a.Prefix))
	}
	l.flag("up", p.AdminUp)
	l.flag("secure", p.PortSecurity)
	l.word("owner", p.DeviceOwner)
	l.word("device", p.DeviceID)
	l.flag("hybrid", p.Hybrid)
	for _, g := range p.Groups {
		l.word("group", g)
	}
	l.rate("egress", p.QoS.Egress)
	l.rate("ingress", p.QoS.Ingress)
	if p.QoS.Marked {
		l.pair("dscp", strconv.Itoa(int(p.QoS.DSCP)))
	}
}

// rate prints kilobits per second and the burst in kilobits: "5000,4000".
func (l *line) rate(name string, r Rate) {
	if r != (Rate{}) {
		l.pair(name, strconv.Itoa(r.Kbps)+","+strconv.Itoa(r.Burst))
	}
}

func (l *line) trunk(t *Trunk) {
	l.word("parent", t.PortID)
	l.flag("up", t.AdminUp)
	for _, s := range t.SubPorts {
		l.pair("subport", strconv.Itoa(int(s.Tag))+","+word(s.PortID))
	}
}

func (l *line) group(g *Group) {
	l.flag("stateless", g.Stateless)
	for i := range g.Rules {
		l.pair("rule", "{"+rule(&g.Rules[i])+"}")
	}
}

func rule(r *Rule) string {
	l := &line{}
	l.b.WriteString(word(r.ID))
	l.flag("egress", r.Egress)
	l.flag("ipv6", r.IPv6)
	l.atLeast0("proto", r.Protocol)
	l.atLeast0("min", r.PortMin)
	l.atLeast0("max", r.PortMax)
	l.pair("remote", prefix(r.Remote))
	l.word("members", r.Members)
	return l.b.String()
}

// atLeast0 leaves out what is -1: any.
func (l *line) atLeast0(name string, v int) {
	if v >= 0 {
		l.pair(name, strconv.Itoa(v))
	}
}

func (l *line) peers(p *Peers) {
	l.word("network", p.NetworkID)
	l.word("host", p.Host)
	l.pair("endpoint", addr(p.Endpoint))
	for _, e := range p.Peers {
		parts := []string{word(e.PortID), e.MAC.String()}
		for _, ip := range e.IPs {
			parts = append(parts, addr(ip))
		}
		l.pair("peer", strings.Join(parts, ","))
	}
}

func (l *line) dhcp(d *DHCP) {
	l.number("mtu", int64(d.MTU))
	l.word("domain", d.DNSDomain)
	l.flag("metadata", d.Metadata)
	for i := range d.Subnets {
		l.pair("subnet", "{"+subnet(&d.Subnets[i])+"}")
	}
}

func subnet(s *DHCPSubnet) string {
	l := &line{}
	l.b.WriteString(joined(word(s.ID), prefix(s.CIDR)))
	l.pair("gateway", addr(s.Gateway))
	l.flag("dhcp", s.EnableDHCP)
	for _, a := range s.DNSNameservers {
		l.pair("dns", addr(a))
	}
	for _, r := range s.HostRoutes {
		l.pair("route", prefix(r.Destination)+","+addr(r.NextHop))
	}
	l.word("ra", s.RAMode)
	l.word("mode", s.AddressMode)
	l.flag("routed", s.Routed)
	for _, a := range s.Servers {
		l.pair("server", addr(a))
	}
	return l.b.String()
}

func (l *line) dhcpHost(h *DHCPHost) {
	l.word("network", h.NetworkID)
	l.pair("mac", h.MAC.String())
	for _, a := range h.Addresses {
		l.pair("ip", strings.Join([]string{addr(a.IP), word(a.SubnetID), word(a.Hostname), word(a.FQDN)}, ","))
	}
	for _, o := range h.Options {
		l.pair("option", "v"+strconv.Itoa(o.IPVersion)+","+word(o.Name)+","+word(o.Value))
	}
	l.flag("serve", h.Serve)
	in := &h.Instance
	l.word("instance", in.ID)
	l.word("project", in.ProjectID)
	l.word("hostname", in.Name)
	l.dict("key", in.PublicKeys)
	if len(in.UserData) > 0 {
		l.pair("userdata", strconv.Quote(string(in.UserData)))
	}
	l.dict("meta", in.Meta)
	l.word("zone", in.Zone)
}

func (l *line) dict(name string, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		l.pair(name, word(k)+"="+word(m[k]))
	}
}

// word quotes what could be mistaken for the line's own signs.
func word(s string) string {
	for i := 0; i < len(s); i++ {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_./@:+", c) >= 0
		if !plain {
			return strconv.Quote(s)
		}
	}
	return s
}

func joined(a, b string) string {
	if b == "" {
		return a
	}
	return a + "," + b
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return word(a.String())
}

func prefix(p netip.Prefix) string {
	if p == (netip.Prefix{}) {
		return ""
	}
	return p.String()
}
