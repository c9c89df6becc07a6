package dhcpd

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestAnswerDNS(t *testing.T) {
	cfg := config6(Stateful)
	cfg.Subnets = append(cfg.Subnets, testConfig().Subnets...)
	cfg.Hosts = append(cfg.Hosts, Host{PortID: "q", MAC: otherMAC, Serve: true, Addresses: []HostAddress{
		{"a", ip("10.0.0.7"), "web", "web.openstacklocal"}, {"s", ip("2001:db8::7"), "web", "web.openstacklocal"},
	}})
	tab := mustCompile(t, cfg)
	for _, c := range []struct {
		name string
		kind uint16
		want string // rcode and answers; "-" is somebody else's
	}{
		{"web.openstacklocal.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"WEB.OpenStackLocal.", dns.TypeAAAA, "NOERROR 2001:db8::7"},
		{"web.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"web.", dns.TypeANY, "NOERROR 10.0.0.7 2001:db8::7"},
		{"web.openstacklocal.", dns.TypeMX, "NOERROR"},
		{"h.openstacklocal.", dns.TypeA, "NOERROR"},
		{"nobody.openstacklocal.", dns.TypeA, "NXDOMAIN"},
		{"nobody.", dns.TypeA, "NXDOMAIN"},
		{"openstacklocal.", dns.TypeSOA, "NOERROR"},
		{"notopenstacklocal.example.", dns.TypeA, "-"},
		{"www.example.com.", dns.TypeA, "-"},
		{".", dns.TypeNS, "-"},
		{"7.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR web.openstacklocal."},
		{"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", dns.TypePTR, "NOERROR web.openstacklocal."},
		{"99.0.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"8.8.8.8.in-addr.arpa.", dns.TypePTR, "-"},
		{"0.10.in-addr.arpa.", dns.TypePTR, "-"},
	} {
		q := new(dns.Msg)
		q.SetQuestion(c.name, c.kind)
		r, mine := answerDNS(tab, q)
		got := "-"
		if mine {
			parts := []string{dns.RcodeToString[r.Rcode]}
			for _, a := range r.Answer {
				switch a := a.(type) {
				case *dns.A:
					parts = append(parts, a.A.String())
				case *dns.AAAA:
					parts = append(parts, a.AAAA.String())
				case *dns.PTR:
					parts = append(parts, a.Ptr)
				}
			}
			got = strings.Join(parts, " ")
		}
		if got != c.want {
			t.Errorf("%s %s = %s, want %s", c.name, dns.TypeToString[c.kind], got, c.want)
		}
	}
}

func FuzzAnswerDNS(f *testing.F) {
	tab, _ := compile(testConfig(), serverMAC)
	q := new(dns.Msg)
	q.SetQuestion("host-10-0-0-5.openstacklocal.", dns.TypeA)
	b, _ := q.Pack()
	f.Add(b)
	q.SetQuestion("5.0.0.10.in-addr.arpa.", dns.TypePTR)
	b, _ = q.Pack()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil || len(m.Question) != 1 {
			return
		}
		r, mine := answerDNS(tab, m)
		if !mine {
			return
		}
		if _, err := r.Pack(); err != nil {
			t.Fatalf("cannot be packed: %v", err)
		}
	})
}

func TestLimiter(t *testing.T) {
	l := newLimiter(1, 2, 2)
	at := time.Unix(0, 0)
	var got []bool
	for _, c := range []struct {
		who string
		at  int
	}{{"10.0.0.1", 0}, {"10.0.0.1", 0}, {"10.0.0.1", 0}, {"10.0.0.2", 0}, {"10.0.0.1", 1}, {"10.0.0.1", 1}} {
		got = append(got, l.allow(ip(c.who), at.Add(time.Duration(c.at)*time.Second)))
	}
	if want := []bool{true, true, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("allowed %v, want %v", got, want)
	}
	l.allow(ip("10.0.0.3"), at)
	if len(l.m) > 2 {
		t.Errorf("%d clients remembered, at most 2", len(l.m))
	}
}

// The files are those that a real Neutron wrote for such a network.
func TestFiles(t *testing.T) {
	cfg := testConfig()
	cfg.Subnets[0].Nameservers = []netip.Addr{ip("9.9.9.9")}
	cfg.Subnets = append(cfg.Subnets, config6(Stateful).Subnets...)
	cfg.Hosts[0].Options = []Option{{"client-id", "00:11", 4}, {"tag:ipxe,67", "a\ntag:evil", 4}, {"bootfile-url", "x", 6}}
	cfg.Hosts[0].Addresses = append(cfg.Hosts[0].Addresses, HostAddress{"s", ip("2001:db8::10"), "h6", "h6.openstacklocal"})
	tab := mustCompile(t, cfg)
	dir := t.TempDir()
	must(t, writeFiles(dir, "tap0", tab))
	want := map[string]string{
		"interface": "tap0",
		"host": `fa:16:3e:00:00:10,id:00:11,host-10-0-0-5.openstacklocal.,10.0.0.5,set:port-p1
fa:16:3e:00:00:10,id:00:11,host-10-5-0-5.openstacklocal.,10.5.0.5,set:port-p1
fa:16:3e:00:00:10,tag:dhcpv6,h6.openstacklocal.,[2001:db8::10],set:port-p1
02:00:00:00:00:09,gw.openstacklocal.,10.0.0.1
`,
		"addn_hosts": `10.0.0.5	host-10-0-0-5.openstacklocal. host-10-0-0-5
10.5.0.5	host-10-5-0-5.openstacklocal. host-10-5-0-5
2001:db8::10	h6.openstacklocal. h6
10.6.0.5	x.openstacklocal. x
10.0.0.1	gw.openstacklocal. gw
`,
		"opts": `tag:subnet-a,option:dns-server,9.9.9.9
tag:subnet-a,option:classless-static-route,10.5.0.0/25,0.0.0.0,10.6.0.0/24,0.0.0.0,192.168.0.0/17,10.0.0.9,169.254.169.254/32,10.0.0.2,0.0.0.0/0,10.0.0.1
tag:subnet-a,249,10.5.0.0/25,0.0.0.0,10.6.0.0/24,0.0.0.0,192.168.0.0/17,10.0.0.9,169.254.169.254/32,10.0.0.2,0.0.0.0/0,10.0.0.1
tag:subnet-a,option:router,10.0.0.1
tag:subnet-b,option:dns-server
tag:subnet-b,option:classless-static-route,10.0.0.0/24,0.0.0.0,10.6.0.0/24,0.0.0.0,169.254.169.254/32,10.5.0.1
tag:subnet-b,249,10.0.0.0/24,0.0.0.0,10.6.0.0/24,0.0.0.0,169.254.169.254/32,10.5.0.1
tag:subnet-b,option:router
tag:subnet-s,option6:domain-search,openstacklocal.
tag:port-p1,tag:ipxe,option:67,atag:evil
tag:port-p1,option6:bootfile-url,x`,
	}
	for name, w := range want {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if d := cmp.Diff(w, string(b)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestLeaseBook(t *testing.T) {
	tab := mustCompile(t, testConfig())
	now := time.Unix(1567475394, 0)
	b := readLeases(strings.NewReader(`1567498384 fa:16:3e:00:00:10 10.0.0.5 old-name 01:fa:16:3e:00:00:10
nonsense
1567498384 fa:16:3e:00:00:10 10.0.0.99 gone *
-1 x 10.0.0.5 a b
1567498384 zz 10.0.0.1 a b
duid 00:01
`))
	b.seed(tab, now)
	var out strings.Builder
	b.write(&out, tab)
	want := `1567498384 fa:16:3e:00:00:10 10.0.0.5 host-10-0-0-5 01:fa:16:3e:00:00:10
1567561794 fa:16:3e:00:00:10 10.5.0.5 host-10-5-0-5 *
1567561794 02:00:00:00:00:09 10.0.0.1 gw *
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("leases (-want +got):\n%s", d)
	}
	b.note(&event{kind: released, host: tab.byMAC[guestMAC], addr: HostAddress{IP: ip("10.0.0.5")}}, now)
	if _, ok := b.m[ip("10.0.0.5")]; ok {
		t.Error("a released lease is still there")
	}
}

func FuzzReadLeases(f *testing.F) {
	f.Add("1567498384 fa:16:3e:00:00:10 10.0.0.5 old-name 01:fa:16:3e:00:00:10\nduid 00\n5 9 fd00::1 h 00:01")
	tab, _ := compile(testConfig(), serverMAC)
	f.Fuzz(func(t *testing.T, s string) {
		b := readLeases(strings.NewReader(s))
		b.seed(tab, time.Unix(0, 0))
		var first, second strings.Builder
		b.write(&first, tab)
		again := readLeases(strings.NewReader(first.String()))
		again.write(&second, tab)
		if first.String() != second.String() {
			t.Fatalf("read back differs:\n%s\n%s", first.String(), second.String())
		}
	})
}
