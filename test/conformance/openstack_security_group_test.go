package conformance_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"baryon/internal/testkit"
)

// openstack runs the openstack command against the world, without an identity service, and returns what it prints.
func (w *world) openstack(args ...string) (string, error) {
	w.t.Helper()
	cmd := exec.CommandContext(w.ctx, "openstack", append([]string{"--os-auth-type", "none", "--os-endpoint", w.url}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(), "LANG=C.UTF-8"}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		w.t.Logf("openstack %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(string(out)), err
}

// TestOpenstackSecurityGroups types the commands of security groups and address groups.
func TestOpenstackSecurityGroups(t *testing.T) {
	testkit.NeedTool(t, "openstack")
	if testing.Short() {
		t.Skip("each command takes a second")
	}
	t.Parallel() // most of it is waiting for Python
	w := newWorld(t)
	ok := func(args ...string) string {
		t.Helper()
		out, err := w.openstack(args...)
		if err != nil {
			t.FailNow()
		}
		return out
	}
	value := func(args ...string) string { t.Helper(); return ok(append(args, "-f", "value")...) }
	if s := value("security", "group", "list", "-c", "Name"); s != "default" {
		t.Errorf("groups of a new project: %q", s)
	}
	ok("security", "group", "create", "--stateless", "--description", "d", "web")
	ok("security", "group", "set", "--stateful", "--tag", "red", "web")
	if s := value("security", "group", "show", "web", "-c", "stateful", "-c", "tags"); s != "True\n['red']" {
		t.Errorf("group shown: %q", s)
	}
	ok("address", "group", "create", "--address", "192.0.2.0/24", "set")
	ok("address", "group", "set", "--address", "198.51.100.7", "set")
	ok("address", "group", "unset", "--address", "192.0.2.0/24", "set")
	if s := value("address", "group", "show", "set", "-c", "addresses"); s != "['198.51.100.7/32']" {
		t.Errorf("addresses: %q", s)
	}
	ok("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "80:443", "--remote-ip", "10.0.0.0/8", "web")
	ok("security", "group", "rule", "create", "--protocol", "icmp", "--icmp-type", "8", "--icmp-code", "0", "--remote-group", "default", "web")
	ok("security", "group", "rule", "create", "--ethertype", "IPv6", "--protocol", "ipv6-icmp", "--egress", "web")
	rule := value("security", "group", "rule", "create", "--remote-address-group", "set", "web", "-c", "id")
	if s := value("security", "group", "rule", "list", "web", "--ingress", "--protocol", "tcp", "-c", "IP Range", "-c", "Port Range"); s != "10.0.0.0/8 80:443" {
		t.Errorf("rules: %q", s)
	}
	ok("security", "group", "rule", "delete", rule)
	ok("network", "create", "n")
	ok("port", "create", "--network", "n", "--security-group", "web", "p")
	if s := value("port", "show", "p", "-c", "security_group_ids"); s != "['"+value("security", "group", "show", "web", "-c", "id")+"']" {
		t.Errorf("groups of the port: %q", s)
	}
	if _, err := w.openstack("security", "group", "delete", "web"); err == nil {
		t.Error("a group in use was deleted")
	}
	ok("port", "set", "--no-security-group", "--disable-port-security", "p")
	ok("security", "group", "delete", "web")
	ok("address", "group", "delete", "set")
}
