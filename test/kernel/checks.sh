#!/usr/bin/env bash
# Runs inside the kernel lane's virtual machine: the end-to-end tests that the kernel's command line names (tests=REGEXP), on the
# kernel's datapath.  Every test and subtest that runs is a check; the last line counts them.
for word in $(</proc/cmdline); do
	case $word in
	tests=*) tests=${word#tests=} ;;
	esac
done
export BARYON_ROOT=required BARYON_BIN=/bin/baryon BARYON_DATAPATH=system
echo "kernel $(uname -r), $(ovs-vswitchd --version | head -1), tests $tests"
log=/tmp/checks.log
/lane/e2e.test -test.v -test.timeout 30m -test.run "$tests" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
passed=$(grep -cE '^ *--- PASS:' "$log")
failed=$(grep -cE '^ *--- (FAIL|SKIP):' "$log")
# A run that broke down, or in which nothing ran, is a failure of its own.
if [ "$failed" = 0 ] && { [ "$status" != 0 ] || [ "$passed" = 0 ]; }; then failed=1; fi
if [ "$failed" != 0 ]; then dmesg | tail -30; fi
echo "kernel: $passed checks passed, $failed failed"
