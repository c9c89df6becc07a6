#!/usr/bin/env bash
# The main job, as a person would do it: three nodes, Debian's openstack command, guests with a real DHCP client.  Every claim is
# checked; the last line counts the checks.  KEEP=1 leaves the lab up.
set -uo pipefail
cd "$(dirname "$0")/../.."

BARYON=$PWD/bin/baryon
LAB="$BARYON lab --name demo"
passed=0 failed=0
log=$(mktemp)

if [ "$(id -u)" != 0 ]; then
	echo "make demo needs root: it makes network namespaces" >&2
	exit 2
fi
export PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
# run prints a command as a person would type it, and what it prints.
run() {
	printf '\n$ %s\n' "$*"
	"$@"
}
# check DESCRIPTION COMMAND...: passes when the command succeeds; its output is shown only when it does not.
check() {
	local what=$1
	shift
	if "$@" >"$log" 2>&1; then
		passed=$((passed + 1))
		printf '  ok    %s\n' "$what"
	else
		failed=$((failed + 1))
		printf '  FAIL  %s\n' "$what"
		sed 's/^/        /' "$log" | tail -20
	fi
}
node() { $LAB exec "$1" -- "${@:2}"; }
guest() { $LAB guest exec "$1" -- "${@:2}"; }

finish() {
	local status=$?
	trap - EXIT
	if [ "${KEEP:-}" = 1 ] && [ -e /var/lib/baryon-lab/demo/lab.json ]; then
		cat <<-TXT

			The lab is still up.  To use it:
			  . /var/lib/baryon-lab/demo/server1/data/openrc      # then: openstack port list …
			  $LAB status
			  $LAB exec cmp1 -- ovs-ofctl dump-flows br-int
			  $LAB guest exec vm-1 -- ping 200.0.0.1
			  $LAB guest add vm-9 --node cmp2 --network net1
			  $LAB down
		TXT
	else
		$LAB down >/dev/null 2>&1
	fi
	rm -f "$log"
	if [ $((passed + failed)) = 0 ]; then failed=1; fi
	echo
	echo "demo: $passed checks passed, $failed failed"
	[ "$failed" = 0 ] && exit "$status"
	exit 1
}
trap finish EXIT
trap 'exit 130' INT TERM

say "Three nodes: ctl (network role), cmp1 and cmp2 (compute role)"
$LAB down >/dev/null 2>&1
topology=$(mktemp)
cat >"$topology" <<'E2'
nodes:
  - {name: ctl, roles: [network]}
  - {name: cmp1, roles: [compute], plug: hybrid}
  - {name: cmp2, roles: [compute]}
physical_networks:
  - name: physnet1
    bridge: br-ex
    outside:
      - {name: router, addresses: [192.168.100.1/24]}
E2
$LAB up --topology "$topology" >"$log" 2>&1
up=$?
rm -f "$topology"
cat "$log"
[ $up = 0 ] || exit 1
. /var/lib/baryon-lab/demo/server1/data/openrc
run openstack network agent list
agents=$(openstack network agent list -f value -c Host -c Alive | sort -u)
check "every node's agents are alive" test "$(grep -c True <<<"$agents")" = 3

say "Act one: guests on one subnet (write-up: same-subnet traffic)"
run openstack network create net1
run openstack subnet create --network net1 --subnet-range 200.0.0.0/24 sub1
for g in vm-1:cmp1 vm-2:cmp1 vm-3:cmp2; do
	check "guest ${g%:*} on ${g#*:} gets a lease from a real DHCP client" $LAB guest add "${g%:*}" --node "${g#*:}" --network net1
done
run openstack port list --network net1
run openstack network list
ip_of() { openstack port show "$1" -f json -c fixed_ips | jq -r '.fixed_ips[0].ip_address'; }
vm1=$(ip_of vm-1) vm2=$(ip_of vm-2) vm3=$(ip_of vm-3)
dhcp=$(openstack port list --network net1 --device-owner network:dhcp -f json | jq -r '.[0]["Fixed IP Addresses"][0].ip_address')
net1=$(openstack network show net1 -f value -c id)
for g in vm-1:$vm1 vm-2:$vm2 vm-3:$vm3; do
	check "${g%:*} has the address that the API shows, ${g#*:}" grep -q "inet ${g#*:}/24" <(guest "${g%:*}" ip -4 address show eth0)
	check "${g%:*} has the network's MTU, 1450" grep -q "mtu 1450" <(guest "${g%:*}" ip link show eth0)
	check "${g%:*} reads its own name from the metadata service" test "$(guest "${g%:*}" curl -s -m 10 http://169.254.169.254/openstack/latest/meta_data.json | jq -r .name)" = "${g%:*}"
done
check "ping vm-1 to vm-2, same node" guest vm-1 ping -c 3 -i 0.2 -W 2 "$vm2"
check "ping vm-1 to vm-3, across nodes through VXLAN" guest vm-1 ping -c 3 -i 0.2 -W 2 "$vm3"
check "ping vm-3 to vm-1, the other way" guest vm-3 ping -c 3 -i 0.2 -W 2 "$vm1"
check "ping vm-1 to the DHCP port $dhcp" guest vm-1 ping -c 3 -i 0.2 -W 2 "$dhcp"
check "a full-size packet passes unfragmented" guest vm-1 ping -c 2 -i 0.2 -W 2 -M do -s 1422 "$vm3"
check "the network's DNS knows vm-3's name" grep -q "$vm3" <(guest vm-1 dig +short +time=2 "@$dhcp" "host-${vm3//./-}.openstacklocal")
check "ports are ACTIVE" test "$(openstack port list --network net1 --device-owner compute:nova -f value -c Status | sort -u)" = ACTIVE

run node cmp1 brctl show
port1=$(openstack port show vm-1 -f value -c id)
for d in tap qbr qvb qvo; do
	check "cmp1 has $d${port1:0:11}" node cmp1 ip link show "$d${port1:0:11}"
done
run node ctl ip netns list
check "ctl has the namespace qdhcp-$net1" grep -q "qdhcp-$net1" <(node ctl ip netns list)
run node ctl ip netns exec "qdhcp-$net1" ifconfig
check "the DHCP namespace has 169.254.169.254" grep -q 169.254.169.254 <(node ctl ip netns exec "qdhcp-$net1" ip address)
run node ctl cat "/var/lib/baryon/dhcp/$net1/leases"
check "the leases file names vm-1" grep -qE "^[0-9]+ fa:16:3e:[0-9a-f:]+ $vm1 host-${vm1//./-} " <(node ctl cat "/var/lib/baryon/dhcp/$net1/leases")

say "Act two: overlapping addresses (write-up: OpenVNet on network namespaces)"
run openstack network create --provider-network-type vxlan vnet1
run openstack subnet create --network vnet1 --subnet-range 172.16.1.0/24 --gateway none --allocation-pool start=172.16.1.100,end=172.16.1.200 vsub1
run openstack network create --provider-network-type gre vnet3
run openstack subnet create --network vnet3 --subnet-range 172.16.1.0/24 --gateway none --allocation-pool start=172.16.1.100,end=172.16.1.200 vsub3
for g in ns1:cmp1:vnet1:1 ns2:cmp2:vnet1:2 ns5:cmp1:vnet3:1 ns6:cmp2:vnet3:2; do
	IFS=: read -r name where net last <<<"$g"
	check "guest $name on $where in $net has 172.16.1.$last" $LAB guest add "$name" --node "$where" --network "$net" --fixed-ip "172.16.1.$last"
done
check "MTU of the GRE network is 1458" grep -q "mtu 1458" <(guest ns5 ip link show eth0)
# twin NETWORK SOURCE TARGET OTHER: only TARGET sees what SOURCE sends to 172.16.1.2.
twin() {
	local source=$2 target=$3 other=$4 seen unseen
	seen=$(mktemp) unseen=$(mktemp)
	guest "$target" timeout 8 tcpdump -l -n -i eth0 icmp >"$seen" 2>"$seen.err" &
	local a=$!
	guest "$other" timeout 8 tcpdump -l -n -i eth0 icmp >"$unseen" 2>"$unseen.err" &
	local b=$!
	until grep -q "listening on" "$seen.err" && grep -q "listening on" "$unseen.err"; do
		kill -0 $a && kill -0 $b || break
		sleep 0.05
	done 2>/dev/null
	run guest "$source" ping -c 3 -i 0.2 -W 2 172.16.1.2
	wait $a $b
	check "$1: $target saw the pings of $source" test "$(grep -c 'echo request' "$seen")" = 3
	check "$1: $other, same address in the twin network, saw none" test "$(grep -c . "$unseen")" = 0
	rm -f "$seen" "$unseen" "$seen.err" "$unseen.err"
}
twin "VXLAN" ns1 ns2 ns6
twin "GRE" ns5 ns6 ns2

say "Act three: security groups (cmp1 filters by iptables, cmp2 by flows)"
run openstack security group create web
rule() { run openstack security group rule create --protocol icmp web; }
# reached FROM ADDRESS: how many of two pings are answered.
reached() { guest "$1" ping -c 2 -i 0.2 -W 1 "$2" | grep -c "bytes from"; }
run openstack port set --no-security-group vm-1
run openstack port set --security-group web vm-1
check "a group without rules for it: vm-3 does not reach vm-1" test "$(reached vm-3 "$vm1")" = 0
rule
check "with a rule for ICMP it does" test "$(reached vm-3 "$vm1")" = 2
run node cmp1 bash -c "iptables -S | grep ${port1:0:10}"
check "vm-1's ingress chain has the rule" grep -q -- "-A neutron-openvswi-i${port1:0:10} -p icmp -j RETURN" <(node cmp1 iptables -S)
pings=$(mktemp)
guest vm-3 ping -i 0.2 -w 60 "$vm1" >"$pings" &
ping=$!
until grep -q "bytes from" "$pings" || ! kill -0 $ping; do sleep 0.05; done
run openstack security group rule delete "$(openstack security group rule list web --protocol icmp -f value -c ID)"
before=$(grep -c "bytes from" "$pings")
check "the rule deleted: vm-3 does not reach vm-1" test "$(reached vm-3 "$vm1")" = 0
check "and a ping that was running is not answered any more" test "$(grep -c "bytes from" "$pings")" -le "$((before + 1))"
kill $ping 2>/dev/null

say "Act four: guests on the physical network (write-up: flat provider network)"
run node cmp1 grep -A1 bridge_mappings /var/lib/baryon/agent.yaml
run openstack network create public01 --provider-network-type flat --provider-physical-network physnet1 --external --share
run openstack subnet create --network public01 --no-dhcp --subnet-range 192.168.100.0/24 --gateway 192.168.100.1 \
	--allocation-pool start=192.168.100.20,end=192.168.100.100 public_subnet
project=$(openstack token issue -f value -c project_id)
group=$(openstack security group list --project "$project" -f json | jq -r '.[] | select(.Name=="default").ID')
check "guests may be pinged from outside" openstack security group rule create --ingress --protocol icmp "$group"
for g in flat-1:cmp1 flat-2:cmp2; do
	check "guest ${g%:*} on ${g#*:} in public01" $LAB guest add "${g%:*}" --node "${g#*:}" --network public01 --client none
	check "${g%:*} has its address set by hand, as without DHCP" guest "${g%:*}" ip address add "$(ip_of "${g%:*}")/24" dev eth0
done
flat1=$(ip_of flat-1) flat2=$(ip_of flat-2) port=$(openstack port show flat-1 -f value -c id)
check "flat-1 gets an address from the pool" grep -qE '^192\.168\.100\.([2-9][0-9]|100)$' <<<"$flat1"
check "out: flat-1 reaches the router outside" guest flat-1 ping -c 3 -i 0.2 -W 2 192.168.100.1
check "in: the router outside reaches flat-1" node outside ip netns exec router ping -c 3 -i 0.2 -W 2 "$flat1"
check "flat-1 reaches flat-2 on the other node, past the physical switch" guest flat-1 ping -c 3 -i 0.2 -W 2 "$flat2"
check "a whole packet of 1500 bytes passes" guest flat-1 ping -c 2 -i 0.2 -W 2 -M do -s 1472 192.168.100.1
run node cmp1 brctl show
for d in qvb tap; do
	check "qbr${port:0:11} has $d${port:0:11}" node cmp1 test -e "/sys/class/net/qbr${port:0:11}/brif/$d${port:0:11}"
done
tag=$(node cmp1 ovs-vsctl get Port "qvo${port:0:11}" tag)
check "qvo${port:0:11} on br-int is tagged with the network's local VLAN" test "$tag" -ge 1 -a "$tag" -le 4094
show=$(node cmp1 ovs-vsctl show)
check "int-br-ex on br-int is the peer of phy-br-ex" grep -q 'options: {peer=phy-br-ex}' <(grep -A3 'Port int-br-ex' <<<"$show")
check "phy-br-ex on br-ex is the peer of int-br-ex" grep -q 'options: {peer=int-br-ex}' <(grep -A3 'Port phy-br-ex' <<<"$show")
check "the NIC is a port of br-ex" grep -qx eth2 <(node cmp1 ovs-vsctl list-ports br-ex)
check "the NIC and its switch port are up" grep -q 'eth2.*[<,]UP[,>]' <(node cmp1 ip -o link show eth2)
run node cmp1 ovs-ofctl show br-ex
phy=$(node cmp1 ovs-ofctl show br-ex | sed -n 's/^ *\([0-9]*\)(phy-br-ex).*/\1/p')
run node cmp1 ovs-ofctl dump-flows br-ex
flows=$(node cmp1 ovs-ofctl dump-flows br-ex)
check "out: the local VLAN is stripped (priority 4, strip_vlan,NORMAL)" grep -qE "priority=4,in_port=$phy,dl_vlan=$tag actions=strip_vlan,NORMAL" <<<"$flows"
check "out: everything else from br-int is dropped (priority 2)" grep -qE "priority=2,in_port=$phy actions=drop" <<<"$flows"
check "the rest is switched (NORMAL)" grep -qE "priority=0 actions=NORMAL" <<<"$flows"
int=$(node cmp1 ovs-ofctl show br-int | sed -n 's/^ *\([0-9]*\)(int-br-ex).*/\1/p')
run node cmp1 ovs-ofctl show br-int
run node cmp1 ovs-ofctl dump-flows br-int table=0
flows=$(node cmp1 ovs-ofctl dump-flows br-int table=0)
check "in: untagged packets get the local VLAN (priority 3, mod_vlan_vid)" grep -qE "priority=3,in_port=$int,vlan_tci=0x0000/0x1fff actions=mod_vlan_vid:$tag," <<<"$flows"
check "in: every other VLAN is dropped (priority 2)" grep -qE "priority=2,in_port=$int actions=drop" <<<"$flows"

say "What was built"
run $LAB status
run openstack network list --long -c Name -c "Network Type" -c Status -c Subnets
run node cmp1 ovs-vsctl show
show=$(node cmp1 ovs-vsctl show)
check "the agent is the controller of br-int, br-tun and br-ex, connected" test "$(grep -c 'is_connected: true' <<<"$show")" = 3
check "the three bridges are secure" test "$(grep -c 'fail_mode: secure' <<<"$show")" = 3
for p in patch-tun patch-int vxlan-c0a8140b vxlan-c0a8140d gre-c0a8140d "qvo${port1:0:11}"; do
	check "cmp1's switch has the port $p" grep -qE "Port \"?$p\"?\$" <<<"$show"
done
run node cmp1 ovs-ofctl --names --no-stats dump-flows br-int
run node cmp1 ovs-ofctl --names --no-stats dump-flows br-tun
check "vm-1's ARP is checked: table 71 allows its own address only" grep -q "table=71,.*arp_spa=$vm1 " <(node cmp1 ovs-ofctl --names --no-stats dump-flows br-int)
check "cmp1 knows vm-3 behind a tunnel (table 20)" grep -qE "table=20, .*priority=2,.*dl_dst=$(openstack port show vm-3 -f value -c mac_address)" <(node cmp1 ovs-ofctl --names dump-flows br-tun)
check "cmp1 answers ARP for vm-3 (table 21)" grep -q "table=21,.*arp_tpa=$vm3[, ]" <(node cmp1 ovs-ofctl --names --no-stats dump-flows br-tun)
