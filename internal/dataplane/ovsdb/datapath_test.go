package ovsdb

import (
	"errors"
	"testing"
)

func TestDetect(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after bool // the kernel has the family before and after loading
		load          error
		want          string
		loads         int
	}{
		"module is there":               {true, true, nil, DatapathKernel, 0},
		"module can be loaded":          {false, true, nil, DatapathKernel, 1},
		"no module":                     {false, false, errors.New("exit status 1"), DatapathUser, 1},
		"loading changes nothing":       {false, false, nil, DatapathUser, 1},
		"loading fails, family appears": {false, true, errors.New("no modprobe"), DatapathUser, 1},
	} {
		loads := 0
		got := detect(func() bool { return tc.before || loads > 0 && tc.after }, func() error { loads++; return tc.load })
		if got != tc.want || loads != tc.loads {
			t.Errorf("%s: %s after %d loads, want %s after %d", name, got, loads, tc.want, tc.loads)
		}
	}
}

func TestChooseDatapath(t *testing.T) {
	user, kernel, unset := BridgeView{DatapathType: DatapathUser}, BridgeView{DatapathType: DatapathKernel}, BridgeView{}
	for name, tc := range map[string]struct {
		configured, detected string
		there                []BridgeView
		want                 string
	}{
		"fresh host with the module":         {"", DatapathKernel, nil, DatapathKernel},
		"fresh host without":                 {"", DatapathUser, nil, DatapathUser},
		"configured":                         {DatapathUser, DatapathKernel, []BridgeView{kernel}, DatapathUser},
		"br-int is netdev, module there":     {"", DatapathKernel, []BridgeView{user}, DatapathUser},
		"br-int is system, module not seen":  {"", DatapathUser, []BridgeView{kernel}, DatapathKernel},
		"br-int has the default":             {"", DatapathUser, []BridgeView{unset}, DatapathKernel},
		"bridges differ: br-int comes first": {"", DatapathKernel, []BridgeView{user, kernel}, DatapathUser},
	} {
		if got := ChooseDatapath(tc.configured, tc.detected, tc.there); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
