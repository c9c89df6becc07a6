#!/usr/bin/env bash
# The kernel lane: boots Debian's cloud kernel in an emulated machine and runs end-to-end tests there, on labs whose nodes forward by
# the kernel's openvswitch module.  Nothing of it touches this host's kernel.  The last line counts the checks; on failure the
# serial console's log stays in bin/kernel/serial.log.
#
# LANE_TESTS: regular expression of the tests to run (TestKernelDatapath).  LANE_TIMEOUT: seconds until the machine is ended (360).
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$PWD/bin/kernel
tests=${LANE_TESTS:-TestKernelDatapath} timeout=${LANE_TIMEOUT:-360}
case $tests in
*[[:space:]]*) echo "kernel: LANE_TESTS must hold no spaces" >&2; exit 2 ;;
esac
mkdir -p "$dir"

CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/baryon" ./cmd/baryon
CGO_ENABLED=0 go test -c -ldflags '-s -w' -o "$dir/e2e.test" ./test/e2e
test/kernel/image.sh "$dir" "$dir/baryon" "$dir/e2e.test" test/kernel/checks.sh

log=$dir/serial.log
: >"$log"
# Emulated even where the host could do better: the lane means the same on every machine.
timeout -k 5 "$timeout" qemu-system-x86_64 -machine pc -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nodefaults -no-user-config \
	-display none -no-reboot -kernel "$dir/vmlinuz" -initrd "$dir/initramfs" -serial "file:$log" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tests=$tests" </dev/null &
vm=$!
trap 'kill "$vm" 2>/dev/null || true' EXIT
tail -f --pid="$vm" -n +1 "$log" | tr -d '\r' &
shown=$!
status=0
wait "$vm" || status=$?
trap - EXIT
wait "$shown" || true

result=$(tr -d '\r' <"$log" | grep -aE '^kernel: [0-9]+ checks passed, [0-9]+ failed$' | tail -1 || true)
case "$result" in
*", 0 failed")
	rm -f "$log"
	exit 0
	;;
"")
	case $status in
	124 | 137) echo "kernel: the machine did not end in $timeout s" ;;
	*) echo "kernel: the machine ended without a result (status $status)" ;;
	esac
	echo "kernel: the console's log is $log"
	echo "kernel: 0 checks passed, 1 failed"
	;;
*) echo "kernel: the console's log is $log" ;;
esac
exit 1
