#!/bin/sh
# What ISC dhclient runs on events, inside a guest's namespace; the counterpart of udhcpc.sh for DHCPv4 and DHCPv6.
bits() {
	n=0
	for o in $(echo "$1" | tr . ' '); do
		while [ "$o" -gt 0 ]; do
			n=$((n + (o & 1)))
			o=$((o >> 1))
		done
	done
	echo $n
}
lease() {
	env > "$LAB_LEASE.env"
	echo "$1" > "$LAB_LEASE.new" && mv "$LAB_LEASE.new" "$LAB_LEASE"
}
case "$reason" in
PREINIT)
	ip link set "$interface" up
	;;
PREINIT6)
	ip link set "$interface" up
	# The client sends from the link-local address: it must exist, and duplicate address detection be over.
	n=0
	while [ $n -lt 100 ]; do
		[ -n "$(ip -6 -o address show dev "$interface" scope link -tentative)" ] && break
		n=$((n + 1))
		sleep 0.1
	done
	;;
BOUND|RENEW|REBIND|REBOOT)
	ip -4 address replace "$new_ip_address/$(bits "$new_subnet_mask")" dev "$interface"
	[ -n "$new_interface_mtu" ] && ip link set "$interface" mtu "$new_interface_mtu"
	if [ -n "$new_rfc3442_classless_static_routes" ]; then
		# Width, as many octets of the destination as it needs, four of the router; they replace the router option.
		set -- $new_rfc3442_classless_static_routes
		while [ $# -ge 5 ]; do
			width=$1 dest="" n=$((($1 + 7) / 8))
			shift
			for i in 1 2 3 4; do
				if [ "$i" -le "$n" ]; then
					dest="$dest${dest:+.}$1"
					shift
				else
					dest="$dest${dest:+.}0"
				fi
			done
			if [ "$1.$2.$3.$4" = 0.0.0.0 ]; then
				ip -4 route replace "$dest/$width" dev "$interface" src "$new_ip_address"
			else
				ip -4 route replace "$dest/$width" via "$1.$2.$3.$4" dev "$interface" onlink
			fi
			shift 4
		done
	else
		for r in $new_routers; do
			ip -4 route replace default via "$r" dev "$interface" onlink
			break
		done
	fi
	{
		[ -n "$new_domain_name" ] && echo "search $new_domain_name"
		for d in $new_domain_name_servers; do echo "nameserver $d"; done
	} > /etc/resolv.conf
	lease "$new_ip_address"
	;;
BOUND6|RENEW6|REBIND6)
	if [ -n "$new_ip6_address" ]; then
		ip -6 address replace "$new_ip6_address/${new_ip6_prefixlen:-128}" dev "$interface"
		lease "$new_ip6_address"
	else
		lease "information"
	fi
	{
		[ -n "$new_dhcp6_domain_search" ] && echo "search $new_dhcp6_domain_search"
		for d in $new_dhcp6_name_servers; do echo "nameserver $d"; done
	} > /etc/resolv.conf
	;;
EXPIRE|FAIL|RELEASE|STOP)
	rm -f "$LAB_LEASE"
	[ -n "$old_ip_address" ] && ip -4 address flush dev "$interface"
	;;
EXPIRE6|RELEASE6|STOP6|DEPREF6)
	rm -f "$LAB_LEASE"
	;;
esac
exit 0
