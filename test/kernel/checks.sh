#!/usr/bin/env bash
# Runs inside the kernel lane's machine: the end-to-end tests that the kernel's command line names (tests=NAME|NAME…), on the kernel's
# datapath.  Every test and subtest that runs is a check.  The verdict goes through a door of its own, so that nothing the tests
# print can be taken for it, and it is written only when they have ended.
for word in $(</proc/cmdline); do
	case $word in
	tests=*) tests=${word#tests=} ;;
	esac
done
export BARYON_ROOT=required BARYON_BIN=/bin/baryon BARYON_DATAPATH=system
echo "kernel $(uname -r), $(ovs-vswitchd --version | head -1), tests $tests"
log=/tmp/checks.log
/lane/e2e.test -test.v -test.timeout 60m -test.run "^($tests)\$" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
passed=$(grep -cE '^ *--- PASS:' "$log")
failed=$(grep -cE '^ *--- (FAIL|SKIP):' "$log")
# What was asked for must have run.
for name in ${tests//|/ }; do
	if ! grep -qE "^--- (PASS|FAIL|SKIP): $name " "$log"; then
		echo "kernel: $name did not run"
		failed=$((failed + 1))
	fi
done
if [ "$failed" = 0 ] && [ "$status" != 0 ]; then failed=1; fi
if [ "$failed" != 0 ]; then
	echo "kernel: the end of the kernel's log:"
	dmesg | tail -30
fi
echo "kernel: $passed checks passed, $failed failed, on $(uname -r)" >/run/verdict
