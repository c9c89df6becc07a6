package conformance_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// typeAsMember: what a project sees and may do, and what it is told otherwise.
func typeAsMember(t *testing.T, c *cloud) {
	admin := c.osc(t)
	for _, name := range []string{"ann", "ben"} {
		admin.do("project create %s-project", name)
		admin.do("user create --password secret --project %s-project %s", name, name)
		admin.do("role add --user %s --project %s-project member", name, name)
	}
	ann, ben := c.login(t, "ann", "secret", "ann-project"), c.login(t, "ben", "secret", "ben-project")
	net := ann.one("network create ann-net")
	if _, shown := net["provider:network_type"]; shown && text(net["provider:network_type"]) != "null" {
		t.Errorf("a member sees %v", net["provider:network_type"])
	}
	ann.do("subnet create --network ann-net --subnet-range 10.30.0.0/24 ann-sub")
	p := ann.one("port create --network ann-net ann-port")
	ann.want(p, "binding_host_id", "null", "binding_vif_type", "null")

	ben.refused("No Network found for ann-net", "network show ann-net")
	ben.refused("No Network found for "+net.id(), "network show %s", net.id())
	ben.refused("No Network found for "+net.id(), "network delete %s", net.id())
	ben.refused("No Port found for "+p.id(), "port set --name x %s", p.id())
	// By name: other tests have networks that everyone sees.
	ben.equal("ben's networks", ben.column("Name", "network list --name ann-net"), "")
	ann.equal("ann's networks", ann.column("Name", "network list --name ann-net"), "ann-net")
	ann.equal("ann's subnets", ann.column("Name", "subnet list --name ann-sub"), "ann-sub")
	for option, rule := range map[string]string{
		"--share": "create_network:shared", "--external": "create_network:router:external",
		"--provider-network-type vxlan": "create_network:provider:network_type",
	} {
		ann.refused("403, (rule:create_network and rule:"+rule+") is disallowed by policy", "network create %s x", option)
	}
	ann.refused("disallowed by policy", "port create --network ann-net --host node-a x")
	ann.refused("other than the authenticated project in request requires admin privileges", "network create --project %s x", text(admin.one("project show ben-project")["id"]))
	ann.equal("ann's agents", ann.column("Host", "network agent list"), "")
	ann.refused("(HTTP 403)", "user create eve")

	// Sharing opens the network, nothing else.
	admin.do("network set --share ann-net")
	ben.equal("ben's networks", ben.column("Name", "network list --share --name ann-net"), "ann-net")
	ben.equal("ben's subnets", ben.column("Name", "subnet list --name ann-sub"), "ann-sub")
	ben.do("port create --network ann-net ben-port")
	ben.equal("ben's ports", ben.column("Name", "port list"), "ben-port")
	ben.refused("disallowed by policy", "port create --network ann-net --fixed-ip ip-address=10.30.0.77 x")
	ben.refused("disallowed by policy", "network set --name mine ann-net")
	admin.refused("Multiple tenants are using it", "network set --no-share ann-net")
	ben.do("port delete ben-port")
	admin.do("network set --no-share ann-net")
	ann.do("port delete ann-port")
	ann.do("network delete ann-net")
	ann.refused("The request you have made requires authentication. (HTTP 401)", "--os-password wrong network list")
	ann.refused("(HTTP 401)", "--os-project-name ben-project network list")
}

func typeAgents(t *testing.T, c *cloud) {
	c.node(t, "node-c", "192.0.2.3", "")
	o := c.osc(t)
	await(t, "the agents of node-c", func() bool { return len(o.list("network agent list --host node-c")) == 3 })
	kinds := o.column("Agent Type", "network agent list --host node-c --sort-column 'Agent Type'")
	o.equal("agents of a node", kinds, "DHCP agent Metadata agent Open vSwitch agent")
	ovs := o.list("network agent list --host node-c --agent-type open-vswitch")[0]
	o.want(ovs, "Host", "node-c", "Alive", "true", "State", "true", "Binary", "neutron-openvswitch-agent")
	shown := o.one("network agent show %s", ovs["ID"])
	o.want(shown, "agent_type", "Open vSwitch agent", "host", "node-c", "alive", "true", "admin_state_up", "true", "topic", "N/A")
	conf, _ := shown["configuration"].(map[string]any)
	o.want(conf, "tunneling_ip", "192.0.2.3", "datapath_type", "netdev", "tunnel_types", `["vxlan","gre"]`)
	o.do("network agent set --disable --description 'under repair' %s", ovs["ID"])
	o.want(o.one("network agent show %s", ovs["ID"]), "admin_state_up", "false", "description", "under repair")
	o.do("network agent set --enable --description '' %s", ovs["ID"])
	o.want(o.one("network agent show %s", ovs["ID"]), "admin_state_up", "true")

	// DHCP scheduling.
	o.do("network create agent-net")
	o.do("subnet create --network agent-net --subnet-range 10.40.0.0/24 agent-sub")
	host := o.column("Host", "network agent list --network agent-net")
	dhcp := func(host string) string {
		return text(o.list("network agent list --agent-type dhcp --host %s", host)[0]["ID"])
	}
	other := "node-a"
	if host == other {
		other = "node-b"
	}
	o.do("network agent add network --dhcp %s agent-net", dhcp(other))
	o.do("network agent add network --dhcp %s agent-net", dhcp(other)) // the client keeps the refusal to itself: 409, it is there
	o.do("network agent remove network --dhcp %s agent-net", dhcp(host))
	o.equal("agents of the network", o.column("Host", "network agent list --network agent-net"), other)
	if got := " " + o.column("Name", "network list --agent %s", dhcp(other)) + " "; !strings.Contains(got, " agent-net ") {
		t.Errorf("networks of the agent: %q", got)
	}
	o.do("network agent remove network --dhcp %s agent-net", dhcp(host)) // so here
	o.equal("agents of the network", o.column("Host", "network agent list --network agent-net"), other)
	o.do("network create --availability-zone-hint east agent-east")
	o.do("subnet create --network agent-east --subnet-range 10.41.0.0/24 agent-east-sub")
	o.equal("agents of a network in the zone east", o.column("Host", "network agent list --network agent-east"), "node-b")
	o.want(o.one("network show agent-east"), "availability_zones", `["east"]`)
	if zones := o.column("Zone Name", "availability zone list --network --sort-column 'Zone Name'"); zones != "east nova" {
		t.Errorf("zones %q", zones)
	}
	o.refused("could not be found", "network agent show 00000000-0000-4000-8000-000000000000")
	o.refused("1 of 1 network agents failed to delete.", "network agent delete 00000000-0000-4000-8000-000000000000")
	o.do("network delete agent-net agent-east")
	meta := text(o.list("network agent list --host node-c --agent-type metadata")[0]["ID"])
	o.do("network agent delete %s", meta)

	if n := len(o.list("extension list --network")); n < 30 {
		t.Errorf("%d extensions", n)
	}
	o.want(o.one("extension show port-security"), "alias", "port-security", "name", "Port Security")
	o.refused("No Extension found for magic", "extension show magic")
}

func typeQuotas(t *testing.T, c *cloud) {
	o := c.osc(t)
	project := text(o.one("project create quota-project")["id"])
	o.want(o.one("quota show quota-project"), "networks", "100", "subnets", "100", "ports", "500", "project", project, "project_name", "quota-project")
	o.do("quota set --ports 200 --networks 2 quota-project")
	o.want(o.one("quota show quota-project"), "networks", "2", "subnets", "100", "ports", "200")
	o.want(o.one("quota show --default quota-project"), "networks", "100", "ports", "500")
	o.do("quota set --force --subnets -1 quota-project")
	o.want(o.one("quota show %s", project), "subnets", "-1")
	o.want(o.one("quota show"), "project_name", "admin")
	var listed bool
	for _, r := range o.list("quota list --network") {
		listed = listed || r["Project ID"] == project && text(r["Ports"]) == "200"
	}
	if !listed {
		t.Error("quota list --network lacks the project with values of its own")
	}
	o.do("network create --project quota-project quota-a")
	o.do("network create --project quota-project quota-b")
	o.refused("Quota exceeded for resources: ['network'].", "network create --project quota-project quota-c")
	for _, r := range o.list("quota list --network --detail --project quota-project") {
		if r["Resource"] == "networks" {
			o.want(r, "In Use", "2", "Limit", "2", "Reserved", "0")
		}
	}
	o.refused("below its current usage of 2", "quota set --check-limit --networks 1 quota-project")
	o.do("quota set --networks 1 quota-project")
	o.refused("invalid int value: 'many'", "quota set --ports many quota-project")
	o.refused("-2", "quota set --ports -2 quota-project")
	o.refused("No project with a name or ID of 'nobody' exists.", "quota set --ports 1 nobody")
	o.refused("This cloud has no compute service: it keeps no quota of cores, ram.", "quota set --cores 8 --ram 1024 quota-project")
	o.refused("volume", "quota set --volumes 8 quota-project")
	o.equal("compute quotas", o.column("Project ID", "quota list --compute"), "")
	o.do("network delete quota-a quota-b")
	o.do("project delete quota-project")
}

func typeIdentity(t *testing.T, c *cloud) {
	o := c.osc(t)
	token := o.one("token issue")
	if s := text(token["id"]); len(s) < 100 || text(token["project_id"]) == "null" {
		t.Errorf("token %v", token)
	}
	o.do("token revoke %s", token["id"])
	project := o.one("project create --description 'a project' --tag one --property team=red id-project")
	o.want(project, "name", "id-project", "description", "a project", "tags", `["one"]`, "enabled", "true", "domain_id", "default", "team", "red")
	o.do("project set --name id-new --disable --tag two id-project")
	o.want(o.one("project show id-new"), "enabled", "false", "id", project.id())
	o.do("project set --enable id-new")
	user := o.one("user create --project id-new --password 'pass word' --email u@example.org id-user")
	o.want(user, "name", "id-user", "default_project_id", project.id(), "email", "u@example.org", "enabled", "true", "domain_id", "default")
	o.want(o.one("role create id-role"), "name", "id-role")
	o.do("role add --user id-user --project id-new member")
	o.do("role add --user id-user --project id-new id-role")
	o.equal("roles", o.column("Role", "role assignment list --user id-user --names --sort-column Role"), "id-role member")
	o.equal("effective roles", o.column("Role", "role assignment list --user id-user --names --effective --sort-column Role"), "id-role member reader")
	o.do("role remove --user id-user --project id-new id-role")
	o.equal("roles", o.column("Role", "role assignment list --user id-user --project id-new --names"), "member")

	u := c.login(t, "id-user", "pass word", "id-new")
	u.want(u.one("token issue"), "user_id", user.id(), "project_id", project.id())
	app := u.one("application credential create --role reader --expiration 2099-01-01T00:00:00 --description robot id-app")
	u.want(app, "name", "id-app", "roles", "reader", "unrestricted", "false", "project_id", project.id())
	u.equal("application credentials", u.column("Name", "application credential list"), "id-app")
	robot := c.environ(t)[:4]
	robot = append(robot, "OS_AUTH_TYPE=v3applicationcredential", "OS_AUTH_URL=http://"+c.identity+"/v3",
		"OS_APPLICATION_CREDENTIAL_ID="+text(app["id"]), "OS_APPLICATION_CREDENTIAL_SECRET="+text(app["secret"]))
	if got := c.exec(t, robot, "", "openstack", "network", "create", "x"); got.code == 0 || !strings.Contains(got.err, "disallowed by policy") {
		t.Errorf("a reader makes a network: %+v", got)
	}
	u.do("application credential delete id-app")
	u.refused("id-app", "application credential show id-app")
	o.do("user set --password other id-user")
	u.refused("(HTTP 401)", "token issue")
	var types []string
	for _, r := range o.list("catalog list") {
		types = append(types, fmt.Sprint(r["Type"], " ", r["Name"]))
	}
	for _, want := range []string{"network neutron", "identity keystone", "compute no-compute"} {
		if !strings.Contains(strings.Join(types, ","), want) {
			t.Errorf("the catalog %q lacks %s", types, want)
		}
	}
	o.want(o.one("catalog show network"), "name", "neutron", "type", "network")
	o.equal("network endpoints", o.column("URL", "endpoint list --service network --interface public"), "http://"+c.api)

	o.refused("Conflict occurred attempting to store project", "project create id-new")
	o.refused("No role with a name or ID of 'king' exists.", "role add --user id-user --project id-new king")
	o.refused("No user with a name or ID of 'nobody' exists.", "user show nobody")
	o.refused("(HTTP 4", "--os-password wrong token issue")
	o.do("user delete id-user")
	o.do("role delete id-role")
	o.do("project delete id-new")
	o.refused("No project with a name or ID of 'id-new' exists.", "project show id-new")
}

// typeProcesses starts the command itself: with clouds.yaml, with openrc in a shell, and as the shell it becomes without arguments.
func typeProcesses(t *testing.T, c *cloud) {
	got := c.run(t, "", "network", "create", "--description", "own process", "proc-net", "-f", "json")
	var net row
	if err := json.Unmarshal([]byte(got.out), &net); err != nil || got.code != 0 || net["description"] != "own process" {
		t.Fatalf("network create: %+v %v", got, err)
	}
	if got = c.run(t, "", "network", "show", "nowhere"); got.code != 1 || !strings.Contains(got.err, "No Network found for nowhere") {
		t.Errorf("network show nowhere: %+v", got)
	}
	script := `. "$1" && openstack quota set --ports 300 service && openstack quota show service -f value -c ports && openstack network list -f value -c Name --name proc-net`
	if got = c.exec(t, c.environ(t)[:4], "", "sh", "-c", script, "sh", c.data()+"/openrc"); got.code != 0 || got.out != "300\nproc-net" {
		t.Errorf("with openrc: %+v", got)
	}
	got = c.run(t, "subnet create --network proc-net --subnet-range 10.50.0.0/24 proc-sub -f value -c cidr\nport create --network proc-net proc-port -f value -c status\n"+
		"port delete proc-port\nnetwork delete proc-net\n")
	if got.code != 0 || strings.Join(strings.Fields(got.out), " ") != "10.50.0.0/24 DOWN" {
		t.Errorf("typed into the client: %+v", got)
	}
	if got = c.run(t, "", "network", "show", net.id()); got.code == 0 {
		t.Errorf("the network is still there: %+v", got)
	}
}
