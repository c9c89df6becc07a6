package metadata

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"baryon/internal/dataplane/netns"
	"baryon/internal/testkit"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func testConfig() *Config {
	return &Config{
		NetworkID: "net", MTU: 1450,
		Subnets: []Subnet{
			{ID: "s4", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: ip("10.0.0.1"), EnableDHCP: true, Nameservers: []netip.Addr{ip("9.9.9.9")}},
			{ID: "s6", CIDR: netip.MustParsePrefix("fd00::/64"), EnableDHCP: true, Mode: "slaac"},
			{ID: "st", CIDR: netip.MustParsePrefix("10.9.0.0/16"), Gateway: ip("10.9.0.1")},
		},
		Ports: []Port{
			{
				ID: "9b48022b-eb93-49fd", MAC: MAC{0xfa, 0x16, 0x3e, 1, 2, 3}, InstanceID: "i-00000021", ProjectID: "proj", Name: "vm-1",
				Addresses: []Address{
					{ip("10.0.0.5"), "s4", "host-10-0-0-5", "vm-1.openstacklocal"}, {ip("fd00::5"), "s6", "h6", "h6.openstacklocal"},
					{ip("10.9.0.5"), "st", "h9", "h9.openstacklocal"},
				},
				PublicKeys: map[string]string{"mykey": "ssh-ed25519 AAAA me"}, UserData: []byte("#!/bin/sh\n\x00"), Zone: "nova",
				Meta: map[string]string{"role": "web"},
			},
			{ID: "bare", MAC: MAC{0xfa, 0x16, 0x3e, 9, 9, 9}, InstanceID: "bare", Addresses: []Address{{ip("10.0.0.6"), "s4", "host-10-0-0-6", ""}}},
			{ID: "twin1", MAC: MAC{2, 0, 0, 0, 0, 1}, Addresses: []Address{{IP: ip("10.0.0.7")}}},
			{ID: "twin2", MAC: MAC{2, 0, 0, 0, 0, 2}, Addresses: []Address{{IP: ip("10.0.0.7")}}},
		},
	}
}

func newServer(nova *Nova) *Server {
	s := &Server{opt: Options{Nova: nova}, stats: new(Stats), conns: map[netip.Addr]int{}}
	s.log = discard()
	s.Apply(testConfig())
	return s
}

func get(s http.Handler, source, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://169.254.169.254"+path, nil)
	r.RemoteAddr = source
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestTree(t *testing.T) {
	s := newServer(nil)
	const me, bare = "10.0.0.5:1000", "10.0.0.6:1000"
	for _, c := range []struct {
		source, path string
		code         int
		want         string
	}{
		{me, "/", 200, "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest"},
		{me, "/latest", 200, "meta-data/\nuser-data"},
		{me, "/latest/", 200, "meta-data/\nuser-data"},
		{bare, "/2009-04-04/", 200, "meta-data/"},
		{me, "/2009-04-04/meta-data/instance-id", 200, "i-00000021"},
		{me, "/2009-04-04/meta-data/instance-id/", 200, "i-00000021"},
		{me, "//latest//meta-data//hostname", 200, "vm-1.openstacklocal"},
		{me, "/latest/meta-data/local-hostname", 200, "vm-1.openstacklocal"},
		{me, "/latest/meta-data/local-ipv4", 200, "10.0.0.5"},
		{me, "/latest/meta-data/placement/", 200, "availability-zone"},
		{me, "/latest/meta-data/placement/availability-zone", 200, "nova"},
		{me, "/latest/meta-data/public-keys", 200, "0=mykey"},
		{me, "/latest/meta-data/public-keys/0/", 200, "openssh-key"},
		{me, "/latest/meta-data/public-keys/0/openssh-key", 200, "ssh-ed25519 AAAA me"},
		{me, "/latest/meta-data/ami-id", 200, "None"},
		{me, "/latest/user-data", 200, "#!/bin/sh\n\x00"},
		{me, "/openstack", 200, strings.Join(openstackVersions, "\n")},
		{me, "/openstack/latest/", 200, "meta_data.json\nnetwork_data.json\nuser_data\nvendor_data.json\nvendor_data2.json"},
		{me, "/openstack/2012-08-10", 200, "meta_data.json\nuser_data"},
		{me, "/openstack/latest/user_data", 200, "#!/bin/sh\n\x00"},
		{me, "/openstack/latest/vendor_data.json", 200, "{}"},
		{bare, "/latest/user-data", 404, "not found\n"},
		{bare, "/latest/meta-data/public-keys/", 404, "not found\n"},
		{me, "/latest/meta-data/instance-id/deeper", 404, "not found\n"},
		{me, "/latest/../../etc/passwd", 404, "not found\n"},
		{me, "/2999-01-01/", 404, "not found\n"},
		{"10.0.0.99:1", "/", 404, "no port of this network has your address\n"},
		{"10.0.0.7:1", "/", 404, "no port of this network has your address\n"},
		{"[fd00::5]:1", "/latest/meta-data/instance-id", 200, "i-00000021"},
		{"[::ffff:10.0.0.5]:1", "/latest/meta-data/instance-id", 200, "i-00000021"},
		{"[fe80::f816:3eff:fe01:203%tap1]:1", "/latest/meta-data/instance-id", 200, "i-00000021"},
		{"[fe80::1]:1", "/", 404, "no port of this network has your address\n"},
		{"junk", "/", 404, "no port of this network has your address\n"},
	} {
		w := get(s, c.source, "GET", c.path, "X-Forwarded-For", "10.0.0.6", "X-Instance-ID", "bare")
		if w.Code != c.code || w.Body.String() != c.want {
			t.Errorf("%s %s = %d %q, want %d %q", c.source, c.path, w.Code, w.Body, c.code, c.want)
		}
	}
	if w := get(s, me, "POST", "/latest/"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST = %d", w.Code)
	}
}

func TestOpenStackJSON(t *testing.T) {
	s := newServer(nil)
	var md map[string]any
	w := get(s, "10.0.0.5:1", "GET", "/openstack/latest/meta_data.json")
	if err := json.Unmarshal(w.Body.Bytes(), &md); err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Fatal(err, w.Header())
	}
	if seed, _ := md["random_seed"].(string); len(seed) != 684 {
		t.Errorf("random seed of %d characters", len(seed))
	}
	delete(md, "random_seed")
	want := map[string]any{
		"uuid": "i-00000021", "name": "vm-1", "hostname": "vm-1.openstacklocal", "launch_index": 0.0, "availability_zone": "nova",
		"project_id": "proj", "meta": map[string]any{"role": "web"}, "public_keys": map[string]any{"mykey": "ssh-ed25519 AAAA me"},
		"keys": []any{map[string]any{"name": "mykey", "type": "ssh", "data": "ssh-ed25519 AAAA me"}}, "devices": []any{},
	}
	if d := cmp.Diff(want, md); d != "" {
		t.Errorf("meta_data.json (-want +got):\n%s", d)
	}
	got := strings.TrimSpace(get(s, "10.0.0.5:1", "GET", "/openstack/latest/network_data.json").Body.String())
	wantNet := `{"links":[{"id":"tap9b48022b-eb","vif_id":"9b48022b-eb93-49fd","type":"ovs","mtu":1450,"ethernet_mac_address":"fa:16:3e:01:02:03"}],` +
		`"networks":[{"id":"network0","type":"ipv4_dhcp","link":"tap9b48022b-eb","network_id":"net","services":[{"type":"dns","address":"9.9.9.9"}]},` +
		`{"id":"network1","type":"ipv6_slaac","link":"tap9b48022b-eb","ip_address":"fd00::5","netmask":"ffff:ffff:ffff:ffff::","network_id":"net"},` +
		`{"id":"network2","type":"ipv4","link":"tap9b48022b-eb","ip_address":"10.9.0.5","netmask":"255.255.0.0","routes":[{"network":"0.0.0.0","netmask":"0.0.0.0","gateway":"10.9.0.1"}],"network_id":"net"}],` +
		`"services":[{"type":"dns","address":"9.9.9.9"}]}`
	if d := cmp.Diff(wantNet, got); d != "" {
		t.Errorf("network_data.json (-want +got):\n%s", d)
	}
}

// A real Nova sees exactly the four headers, and its answers are mapped.
func TestNova(t *testing.T) {
	var seen *http.Request
	var body string
	answer := http.StatusOK
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, body = r, string(b)
		w.Header().Set("Content-Type", "text/x-test")
		w.Header().Set("Set-Cookie", "secret")
		w.WriteHeader(answer)
		fmt.Fprint(w, "hello") //nolint:errcheck // a test
	}))
	defer back.Close()
	nova, err := NewNova(back.URL, "s3cr3t")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(nova)
	r := httptest.NewRequest("POST", "http://169.254.169.254/openstack/latest/pass%2fword?x=1", strings.NewReader("data"))
	r.RemoteAddr = "10.0.0.5:1"
	r.Header.Set("X-Forwarded-For", "1.2.3.4")
	r.Header.Set("X-Tenant-ID", "forged")
	r.Header.Set("Authorization", "forged")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 200 || w.Body.String() != "hello" || w.Header().Get("Content-Type") != "text/x-test" || w.Header().Get("Set-Cookie") != "" {
		t.Fatalf("%d %q %v", w.Code, w.Body, w.Header())
	}
	if seen.Method != "POST" || seen.RequestURI != "/openstack/latest/pass%2fword?x=1" || body != "data" {
		t.Errorf("nova saw %s %s %q", seen.Method, seen.RequestURI, body)
	}
	seen.Header.Del("Content-Length")
	want := http.Header{
		"X-Forwarded-For": {"10.0.0.5"}, "X-Instance-Id": {"i-00000021"}, "X-Tenant-Id": {"proj"},
		// echo -n i-00000021 | openssl dgst -sha256 -hmac s3cr3t
		"X-Instance-Id-Signature": {nova.Sign("i-00000021")},
	}
	if d := cmp.Diff(want, seen.Header); d != "" {
		t.Errorf("headers at nova (-want +got):\n%s", d)
	}
	for code, want := range map[int]int{400: 400, 403: 403, 404: 404, 409: 409, 500: 500, 502: 502, 503: 503, 504: 504, 418: 500, 302: 500, 204: 500} {
		answer = code
		if w := get(s, "10.0.0.5:1", "GET", "/"); w.Code != want {
			t.Errorf("nova %d becomes %d, want %d", code, w.Code, want)
		}
	}
	seen = nil
	if w := get(s, "10.0.0.99:1", "GET", "/"); w.Code != 404 || seen != nil {
		t.Error("a stranger reached nova")
	}
	back.Close()
	if w := get(s, "10.0.0.5:1", "GET", "/"); w.Code != 503 {
		t.Errorf("nova away: %d, want 503", w.Code)
	}
	if _, err := NewNova("ftp://x", ""); err == nil {
		t.Error("a bad address is taken")
	}
}

// The signature is openssl's: `printf %s i-00000021 | openssl dgst -sha256 -hmac s3cr3t`.
func TestSign(t *testing.T) {
	testkit.NeedTool(t, "openssl")
	out, err := exec.Command("sh", "-c", "printf %s i-00000021 | openssl dgst -sha256 -hmac s3cr3t -r").Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNova("http://h", "s3cr3t")
	if err != nil {
		t.Fatal(err)
	}
	if want, _, _ := strings.Cut(string(out), " "); n.Sign("i-00000021") != want {
		t.Errorf("signature %s, want %s", n.Sign("i-00000021"), want)
	}
}

func TestAdmit(t *testing.T) {
	s := newServer(nil)
	a := ip("10.0.0.5")
	for i := range maxPerClient {
		if !s.admit(a) {
			t.Fatalf("connection %d is refused", i)
		}
	}
	if s.admit(a) || !s.admit(ip("10.0.0.6")) {
		t.Error("the bound of one guest is not its own")
	}
	s.leave(a)
	if !s.admit(a) {
		t.Error("a closed connection still counts")
	}
}

func FuzzPath(f *testing.F) {
	s := newServer(nil)
	for _, p := range []string{"/", "/latest/meta-data/public-keys/0/openssh-key", "/openstack/latest/network_data.json", "//..//%2e"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "http://h/", nil)
		r.URL.Path = path
		r.RemoteAddr = "10.0.0.5:1"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 404 {
			t.Fatalf("%q = %d", path, w.Code)
		}
	})
}

// curl in a guest's namespace, over IPv4 and the link-local address; the device may come after the server.
func TestCurl(t *testing.T) {
	testkit.NeedRoot(t)
	tag := fmt.Sprint(os.Getpid())
	for _, n := range []string{"bt-md-" + tag, "bt-mg-" + tag} {
		if err := netns.Ensure(n); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { netns.Delete(n) }) //nolint:errcheck // a test
	}
	ns, err := netns.Open("bt-md-" + tag)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	s, err := Start(Options{NS: ns}, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a test
	g, err := netns.Open("bt-mg-" + tag)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	h, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "tap0"
	err = h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 2, 3}, PeerNamespace: netlink.NsFd(g.FD())})
	if err != nil {
		t.Fatal(err)
	}
	run := func(ns string, argv ...string) string {
		out, err := exec.Command("ip", append([]string{"netns", "exec", ns + tag}, argv...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
		return string(out)
	}
	for _, c := range []string{
		"ip link set tap0 up", "ip address add 10.0.0.2/24 dev tap0", "ip address add 169.254.169.254/32 dev tap0", "ip address add fe80::a9fe:a9fe/128 dev tap0 nodad",
		"ip address add fd00::2/64 dev tap0 nodad",
	} {
		run("bt-md-", strings.Fields(c)...)
	}
	for _, c := range []string{
		"sysctl -q -w net.ipv6.conf.eth0.accept_dad=0", "ip link set eth0 up", "ip address add 10.0.0.5/24 dev eth0", "ip address replace fe80::f816:3eff:fe01:203/64 dev eth0 nodad",
		"ip address add fd00::5/64 dev eth0 nodad", "ip route add 169.254.169.254 via 10.0.0.2",
	} {
		run("bt-mg-", strings.Fields(c)...)
	}
	for _, u := range []string{"http://169.254.169.254/2009-04-04/meta-data/instance-id", "http://[fe80::a9fe:a9fe%25eth0]/latest/meta-data/instance-id"} {
		if got := run("bt-mg-", "curl", "-s", "-g", "-m", "10", "-H", "X-Forwarded-For: 10.0.0.6", u); got != "i-00000021" {
			t.Errorf("%s = %q", u, got)
		}
	}
	// Other addresses of the namespace are not metadata's.
	if out, err := exec.Command("ip", "netns", "exec", "bt-mg-"+tag, "curl", "-s", "-g", "-m", "10", "http://[fd00::2]/").CombinedOutput(); err == nil {
		t.Errorf("metadata on the server's own address: %s", out)
	}
	s.Apply(&Config{NetworkID: "net"})
	if got := run("bt-mg-", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10", "http://169.254.169.254/"); got != "404" {
		t.Errorf("after the port is gone: %s", got)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
