#!/usr/bin/env bash
# guest.sh DIR: makes DIR/vmlinuz, Debian's cloud kernel, and DIR/guest, the root file system of a small guest that asks for its
# address by DHCP and says on its console what it got: see guest-init.
set -euo pipefail
here=$(dirname "$0")
. "$here/lib.sh"
dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fetch_kernel "$dir"
new_root "$root"
copy_commands "$root" busybox
copy_modules "$dir" "$root" virtio_pci virtio_net
cp "$here/guest-init" "$root/init"
cp "$here/guest-lease" "$root/lease.sh"
busybox_rest "$root"
pack "$root" "$dir/guest"
