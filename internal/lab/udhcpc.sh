#!/bin/sh
# What busybox udhcpc runs on events, inside a guest's namespace.  It sets what the server offered and writes the address to
# $LAB_LEASE, which the lab waits for.
case "$1" in
deconfig)
	rm -f "$LAB_LEASE"
	ip -4 address flush dev "$interface"
	ip link set "$interface" up
	;;
bound|renew)
	ip -4 address replace "$ip/$mask" dev "$interface"
	[ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
	if [ -n "$staticroutes" ]; then
		# Classless routes replace the router option (RFC 3442).
		set -- $staticroutes
		while [ $# -ge 2 ]; do
			if [ "$2" = 0.0.0.0 ]; then
				ip -4 route replace "$1" dev "$interface" src "$ip"
			else
				ip -4 route replace "$1" via "$2" dev "$interface" onlink
			fi
			shift 2
		done
	else
		for r in $router; do
			ip -4 route replace default via "$r" dev "$interface" onlink
			break
		done
	fi
	{
		[ -n "$domain" ] && echo "search $domain"
		for d in $dns; do echo "nameserver $d"; done
	} > /etc/resolv.conf
	env > "$LAB_LEASE.env"
	echo "$ip" > "$LAB_LEASE.new" && mv "$LAB_LEASE.new" "$LAB_LEASE"
	;;
esac
exit 0
