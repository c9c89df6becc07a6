package model

import "testing"

func TestDefinitionsAreSound(t *testing.T) {
	for _, d := range Definitions() {
		for _, fault := range d.Lint() {
			t.Error(fault)
		}
	}
}
