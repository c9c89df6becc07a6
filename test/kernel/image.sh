#!/usr/bin/env bash
# image.sh DIR BARYON FILE...: makes DIR/vmlinuz, Debian's cloud kernel, and DIR/initramfs, a root file system that holds what the
# kernel lane needs: this host's own programs with their libraries, the kernel's modules with their dependencies, and BARYON as
# /bin/baryon.  FILEs are put into /lane.
set -euo pipefail
here=$(dirname "$0")
. "$here/lib.sh"
dir=$1 baryon=$2
shift 2

# The machine's own devices and those that the lab makes; the datapath and all of netfilter follow below.
modules="virtio_pci virtio_rng virtio_console vxlan ip_gre veth bridge br_netfilter tun sch_ingress sch_htb cls_u32 act_police"
commands="bash busybox modprobe ip bridge nsenter unshare ovs-vswitchd ovs-vsctl ovs-ofctl ovs-appctl ovs-dpctl ovsdb-server ovsdb-tool
ping tcpdump ethtool curl iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore ipset"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fetch_kernel "$dir"
new_root "$root"
copy_commands "$root" $commands
net=$dir/kernel/lib/modules/$(cat "$dir/kernel/version")/kernel/net
copy_modules "$dir" "$root" $modules $(find "$net"/{openvswitch,netfilter,ipv4/netfilter,ipv6/netfilter} -name '*.ko' -printf '%f\n' | sed 's/\.ko$//')
cp "$baryon" "$root/bin/baryon"
mkdir -p "$root/lane" "$root/etc/openvswitch" "$root/usr/share/openvswitch"
cp "$@" "$root/lane/"
cp "$here/init" "$root/init"
cp /usr/share/openvswitch/vswitch.ovsschema "$root/usr/share/openvswitch/"
# The extensions of iptables, which it loads by name.
libs=$(dirname "$(dpkg -L iptables | grep -m1 '/xtables/libxt_')")
mkdir -p "$root$libs"
cp -L "$libs"/lib*.so "$root$libs/"
# tcpdump gives its privileges up for this user.
printf 'root:x:0:0:root:/root:/bin/sh\ntcpdump:x:100:100::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\ntcpdump:x:100:\n' >"$root/etc/group"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
: >"$root/etc/resolv.conf"
busybox_rest "$root"
pack "$root" "$dir/initramfs"
