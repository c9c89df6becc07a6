#!/usr/bin/env bash
# image.sh DIR BARYON [FILE]...: makes DIR/vmlinuz, Debian's cloud kernel, and DIR/initramfs, a root file system that holds what the
# kernel lane needs: this host's own binaries with their libraries, the kernel's modules with their dependencies, and BARYON as
# /bin/baryon.  FILEs are put into /lane.  The kernel is downloaded once and stays in DIR.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
dir=$1 baryon=$2
shift 2
mkdir -p "$dir"

# What the modules' names say, and what loads itself by an alias at run time (rtnl-link-…, net-pf-…).
modules="openvswitch vport-vxlan vport-gre vport-geneve vxlan ip_gre ip6_gre veth bridge br_netfilter tun dummy 8021q af_packet
nf_conntrack nf_conntrack_netlink ip_tables ip6_tables iptable_raw iptable_nat iptable_mangle iptable_filter ip6table_raw
ip6table_mangle ip6table_filter xt_conntrack xt_CT xt_comment xt_mac xt_physdev xt_set xt_multiport xt_mark xt_state xt_tcpudp
ip_set_hash_net ip_set_hash_ip nf_tables nft_compat nft_ct nft_counter sch_htb sch_ingress sch_fq_codel act_police cls_u32 cls_basic
virtio_pci virtio_mmio virtio_net virtio_console virtio-rng crc32c_generic crc32c-intel xt_REDIRECT xt_MASQUERADE ip_vti"
commands="bash busybox ip bridge nsenter unshare ovs-vswitchd ovs-vsctl ovs-ofctl ovs-appctl ovs-dpctl ovsdb-server ovsdb-tool
ovsdb-client ping tcpdump ethtool curl iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore ipset
sh dhclient udhcpc sed grep awk"

# kernel: fetches and unpacks the kernel package that the metapackage depends on.
kernel() {
	if [ -e "$dir/kernel/version" ]; then return; fi
	rm -rf "$dir/kernel.new"
	mkdir -p "$dir/kernel.new"
	[ -n "$(apt-cache depends linux-image-cloud-amd64 2>/dev/null)" ] || apt-get update -qq
	local pkg
	pkg=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
	echo "kernel: downloading $pkg" >&2
	(cd "$dir/kernel.new" && { apt-get download -qq "$pkg" || { apt-get update -qq && apt-get download -qq "$pkg"; }; } 2>/dev/null)
	dpkg-deb -x "$dir/kernel.new/"linux-image-*.deb "$dir/kernel.new"
	rm "$dir/kernel.new/"linux-image-*.deb
	local version
	version=$(ls "$dir/kernel.new/lib/modules")
	depmod -b "$dir/kernel.new" "$version"
	cp "$dir/kernel.new/boot/vmlinuz-$version" "$dir/vmlinuz"
	echo "$version" >"$dir/kernel.new/version"
	rm -rf "$dir/kernel"
	mv "$dir/kernel.new" "$dir/kernel"
}

# copy_modules ROOT MODULE...: copies modules and what they depend on, and their index.
copy_modules() {
	local root=$1 version from
	shift
	version=$(cat "$dir/kernel/version")
	from=$dir/kernel/lib/modules/$version
	# modules.dep lists every module's dependencies to the last: one look-up is the closure.  A module that this kernel does not
	# have, or has built in, is no error here; whoever needs it will say so.
	printf '%s\n' "$@" | tr - _ | awk -v dep="$from/modules.dep" '
		BEGIN {
			while ((getline line < dep) > 0) {
				split(line, a, ":"); name = a[1]; sub(/.*\//, "", name); sub(/\.ko.*/, "", name); gsub(/-/, "_", name)
				sub(/:/, "", line); files[name] = line
			}
		}
		$0 in files { print files[$0] }' | tr ' ' '\n' | sort -u | while read -r f; do
		[ -n "$f" ] || continue
		mkdir -p "$root/lib/modules/$version/${f%/*}"
		cp "$from/$f" "$root/lib/modules/$version/$f"
	done
	cp "$from"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
	depmod -b "$root" "$version"
}

# copy_command ROOT COMMAND...: copies binaries with the libraries they are linked with.
copy_command() {
	local root=$1 c path lib
	shift
	for c in "$@"; do
		path=$(command -v "$c") || { echo "kernel: no command $c on this host" >&2; return 1; }
		cp -L "$path" "$root/bin/$c"
		{ ldd "$path" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r lib; do
			mkdir -p "$root${lib%/*}"
			[ -e "$root$lib" ] || cp -L "$lib" "$root$lib"
		done
	done
}

# pack ROOT FILE: makes the archive.  It is not compressed: unpacking would take an emulated machine longer than reading.
pack() { (cd "$1" && find . | busybox cpio -o -H newc 2>/dev/null) >"$2"; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
kernel
mkdir -p "$root"/{usr,dev,proc,sys,run,tmp,etc/openvswitch,root,lane,var/lib,usr/share/openvswitch,lib,lib64,bin}
# One directory of commands and one of libraries, under all their names.
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"
ln -s bin "$root/sbin"
ln -s ../lib "$root/usr/lib"
ln -s ../run "$root/var/run"
copy_command "$root" $commands
copy_modules "$root" $modules
cp "$baryon" "$root/bin/baryon"
cp /usr/share/openvswitch/vswitch.ovsschema "$root/usr/share/openvswitch/"
cp "$@" "$root/lane/"
cp "$(dirname "$0")/init" "$root/init"
# The extensions of iptables, which it loads by name.
cp -r /usr/lib/x86_64-linux-gnu/xtables "$root/lib/x86_64-linux-gnu/"
# tcpdump gives its privileges up for this user.
printf 'root:x:0:0:root:/root:/bin/sh\ntcpdump:x:100:100::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\ntcpdump:x:100:\n' >"$root/etc/group"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
for applet in $(busybox --list); do
	[ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
pack "$root" "$dir/initramfs.new"
mv "$dir/initramfs.new" "$dir/initramfs"
