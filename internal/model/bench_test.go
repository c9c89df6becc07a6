package model

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"baryon/internal/resource"
)

func samplePort(i int) *Port {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ip := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	return &Port{
		Standard: Standard{ID: ID(fmt.Sprintf("00000000-0000-4000-8000-%012x", i)), ProjectID: "10e1ab0a95ad41fe890f32fa6f67706a", CreatedAt: at, UpdatedAt: at, Revision: 3},
		Name:     fmt.Sprintf("port-%d", i), NetworkID: "12637ed8-6650-45c2-9ec4-e1a6bd0af8d8", AdminStateUp: true, MAC: MAC{0xfa, 0x16, 0x3e, 0, byte(i >> 8), byte(i)},
		FixedIPs: []FixedIP{{"1a6e9fc9-b21e-4631-807d-b31965feff1d", ip}}, DeviceID: "vm", DeviceOwner: "compute:nova", PortSecurityEnabled: true,
		Binding: Binding{Host: "cmp1", VNICType: VNICNormal, VIFType: VIFOVS, VIFDetails: map[string]any{"port_filter": true, "bridge_name": "br-int"}},
		Status:  StatusActive, DNSAssignment: []DNSAssignment{{ip, "host-10-0-0-1", "host-10-0-0-1.openstacklocal."}},
	}
}

func BenchmarkEncode1000Ports(b *testing.B) {
	ports := make([]*Port, 1000)
	for i := range ports {
		ports[i] = samplePort(i)
	}
	enc := Ports.Encoder(nil, true)
	var buf []byte
	for b.Loop() {
		buf = enc.AppendAll(buf[:0], ports)
	}
	if !json.Valid(buf) {
		b.Fatal("encoded no JSON")
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodePort(b *testing.B) {
	body := []byte(`{"port":{"network_id":"12637ed8-6650-45c2-9ec4-e1a6bd0af8d8","name":"p","admin_state_up":true,"device_id":"vm","device_owner":"compute:nova","binding:host_id":"cmp1"}}`)
	for b.Loop() {
		if _, _, err := Ports.ParseCreate(body, resource.Creator{ProjectID: "p"}); err != nil {
			b.Fatal(err)
		}
	}
}
