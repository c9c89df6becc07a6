#!/usr/bin/env bash
# The kernel lane: boots Debian's cloud kernel in an emulated machine and runs end-to-end tests there, on labs whose nodes forward by
# the kernel's openvswitch module.  Nothing of it touches this host's kernel.  The last line counts the checks; the exit status
# tells whether all passed.  bin/kernel/ keeps what the tests said (tests.log) and what the machine's kernel said (console.log).
#
# LANE_TESTS: the tests to run, NAME|NAME…; LANE_TIMEOUT: seconds until the machine is ended.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$PWD/bin/kernel
tests=${LANE_TESTS:-TestKernelDatapath} timeout=${LANE_TIMEOUT:-1200}
if ! [[ $tests =~ ^[A-Za-z0-9_\|]+$ && $timeout =~ ^[0-9]+$ ]]; then
	echo "kernel: LANE_TESTS must be names of tests joined by |, LANE_TIMEOUT a number" >&2
	exit 2
fi
mkdir -p "$dir"
# One lane at a time: they share the directory.
exec 9>"$dir/lock"
flock 9

CGO_ENABLED=0 "${GO:-go}" build -trimpath -ldflags '-s -w' -o "$dir/baryon" ./cmd/baryon
CGO_ENABLED=0 "${GO:-go}" test -c -ldflags '-s -w' -o "$dir/e2e.test" ./test/e2e
test/kernel/image.sh "$dir" "$dir/baryon" "$dir/e2e.test" test/kernel/checks.sh

log=$dir/tests.log console=$dir/console.log verdict=$dir/verdict
: >"$log"
: >"$console"
: >"$verdict"
# Emulated even where the host could do better: the lane means the same on every machine.
timeout -k 5 "$timeout" qemu-system-x86_64 -machine pc -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nodefaults -no-user-config \
	-display none -no-reboot -kernel "$dir/vmlinuz" -initrd "$dir/initramfs" -serial "file:$console" -device virtio-rng-pci \
	-device virtio-serial-pci -chardev "file,id=log,path=$log" -device virtserialport,chardev=log,nr=1 \
	-chardev "file,id=verdict,path=$verdict" -device virtserialport,chardev=verdict,nr=2 \
	-append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tests=$tests" </dev/null 9>&- &
vm=$!
trap 'kill "$vm" 2>/dev/null || true' EXIT
tail -f --pid="$vm" -n +1 "$log" 9>&- &
shown=$!
status=0
wait "$vm" || status=$?
trap - EXIT
wait "$shown" || true

result=$(cat "$verdict")
case "$status $result" in
0\ *" checks passed, 0 failed, on "*) ;;
0\ ?*)
	echo "kernel: the tests' log is $log, the console's $console"
	echo "$result"
	exit 1
	;;
*)
	case $status in
	124 | 137) echo "kernel: the machine did not end in $timeout s" ;;
	*) echo "kernel: the machine ended without a verdict (status $status)" ;;
	esac
	echo "kernel: the tests' log is $log, the console's $console; it ends with"
	tail -5 "$console" | tr -d '\r'
	echo "kernel: 0 checks passed, 1 failed"
	exit 1
	;;
esac
echo "$result"
