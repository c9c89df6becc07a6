package main

import (
	"encoding/json"
	"fmt"
	"net"
)

// device is one OVS port to be made for an API port.
type device struct{ name, portID, mac string }

// plugAll inserts the ports into br-int by one transaction, straight into the node's database: what is measured starts there.
func plugAll(socket string, devices []device) error {
	var ops []any
	var uuids []any
	for i, d := range devices {
		iface, port := fmt.Sprintf("i%d", i), fmt.Sprintf("p%d", i)
		ids := []any{"map", []any{
			[]any{"iface-id", d.portID}, []any{"iface-status", "active"}, []any{"attached-mac", d.mac},
		}}
		ops = append(ops,
			obj{"op": "insert", "table": "Interface", "uuid-name": iface, "row": obj{"name": d.name, "external_ids": ids}},
			obj{"op": "insert", "table": "Port", "uuid-name": port, "row": obj{
				"name": d.name, "interfaces": []any{"named-uuid", iface}, "tag": 4095, "vlan_mode": "trunk", "trunks": 4095,
			}})
		uuids = append(uuids, []any{"named-uuid", port})
	}
	ops = append(ops, obj{
		"op": "mutate", "table": "Bridge", "where": []any{[]any{"name", "==", "br-int"}},
		"mutations": []any{[]any{"ports", "insert", []any{"set", uuids}}},
	})
	return transact(socket, ops)
}

// unplugAll takes the ports out of br-int.
func unplugAll(socket string, devices []device) error {
	var ops []any
	for _, d := range devices {
		ops = append(ops, obj{"op": "select", "table": "Port", "where": []any{[]any{"name", "==", d.name}}, "columns": []any{"_uuid"}})
	}
	rows, err := query(socket, ops)
	if err != nil {
		return err
	}
	var uuids []any
	for _, r := range rows {
		for _, row := range r.Rows {
			uuids = append(uuids, row["_uuid"])
		}
	}
	return transact(socket, []any{obj{
		"op": "mutate", "table": "Bridge", "where": []any{[]any{"name", "==", "br-int"}},
		"mutations": []any{[]any{"ports", "delete", []any{"set", uuids}}},
	}})
}

type result struct {
	Error, Details string
	Rows           []map[string]any
}

func transact(socket string, ops []any) error {
	_, err := query(socket, ops)
	return err
}

func query(socket string, ops []any) ([]result, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // one exchange
	req := obj{"method": "transact", "params": append([]any{"Open_vSwitch"}, ops...), "id": 1}
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return nil, err
	}
	var reply struct {
		Error  any
		Result []*result
	}
	if err := json.NewDecoder(c).Decode(&reply); err != nil {
		return nil, err
	}
	if reply.Error != nil {
		return nil, fmt.Errorf("transact: %v", reply.Error)
	}
	var out []result
	for _, r := range reply.Result {
		if r == nil {
			continue
		}
		if r.Error != "" {
			return nil, fmt.Errorf("transact: %s: %s", r.Error, r.Details)
		}
		out = append(out, *r)
	}
	return out, nil
}
