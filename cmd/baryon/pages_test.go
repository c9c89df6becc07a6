package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyWhatTheFileHoldsIsReleased(t *testing.T) {
	const smaps = `00400000-015ff000 r-xp 00000000 fe:00 10224370                           /usr/bin/baryon
Size:              18428 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
015ff000-02a20000 r--p 011ff000 fe:00 10224370                           /usr/bin/baryon
Anonymous:             0 kB
02a20000-02a21000 r--p 02620000 fe:00 10224370                           /usr/bin/baryon
Anonymous:             4 kB
02a21000-02acf000 rw-p 02621000 fe:00 10224370                           /usr/bin/baryon
Anonymous:             0 kB
181f10800000-181f12000000 rw-p 00000000 00:00 0 
Anonymous:         16656 kB
7f61076c8000-7f610781e000 r-xp 00026000 fe:00 326269                     /usr/lib/x86_64-linux-gnu/libc.so.6
Anonymous:             0 kB
`
	got, err := untouched(strings.NewReader(smaps), "/usr/bin/baryon")
	if err != nil {
		t.Fatal(err)
	}
	want := []area{{0x400000, 0x15ff000}, {0x15ff000, 0x2a20000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(area{})); diff != "" {
		t.Error(diff)
	}
	if _, err := untouched(strings.NewReader("zz-00 r--p 0 0:0 1 /f\n"), "/f"); err == nil {
		t.Error("a mapping without addresses is taken")
	}
}

func TestTheProgramRunsOnWithoutItsPages(t *testing.T) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	mappings := func() int {
		text, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, l := range strings.Split(string(text), "\n") {
			if strings.HasSuffix(l, exe) {
				n++
			}
		}
		return n
	}
	before := mappings()
	if before == 0 {
		t.Fatal("the test's own binary is not mapped")
	}
	if err := releaseBinary(); err != nil {
		t.Fatal(err)
	}
	if after := mappings(); after != before {
		t.Errorf("%d mappings of the binary, were %d", after, before)
	}
}
