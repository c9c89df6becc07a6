package model

import (
	"strconv"

	"baryon/internal/resource"
)

// Trunks defines the resource trunk.
var Trunks = resource.Define(TrunkTable, "trunk", "trunks",
	identity(func(t *Trunk) *Standard { return &t.Standard }),
	resource.Attr("name", func(t *Trunk) *string { return &t.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name"), resource.Ext("trunk")),
	resource.Attr("admin_state_up", func(t *Trunk) *bool { return &t.AdminStateUp }, resource.Bool(),
		resource.Writable, resource.Default(true), resource.Filter, resource.Sort, resource.Ext("trunk")),
	resource.Attr("port_id", func(t *Trunk) *ID { return &t.PortID }, resource.UUID[ID](),
		resource.CreateOnly, resource.Required, resource.RefTo("port"), resource.Filter, resource.Sort, resource.Indexed("parent"),
		resource.Policy("project of the port"), resource.Ext("trunk")),
	resource.Attr("status", func(t *Trunk) *string { return &t.Status }, resource.String(16),
		resource.Presented, resource.Filter, resource.Sort, resource.Ext("trunk")),
	resource.Attr("sub_ports", func(t *Trunk) *[]SubPort { return &t.SubPorts }, subPorts(),
		resource.CreateOnly, resource.Allocated, resource.Ext("trunk")),
	standard(func(t *Trunk) *Standard { return &t.Standard }),
)

// subPorts is a list of {port_id, segmentation_type, segmentation_id}.
func subPorts() resource.Codec[[]SubPort] {
	return resource.Codec[[]SubPort]{
		Kind: "list of {port_id, segmentation_type, segmentation_id}",
		Decode: func(v any) ([]SubPort, error) {
			return objects(v, "subport", []string{"port_id", "segmentation_type", "segmentation_id"}, decodeSubPort,
				func(a, b SubPort) bool { return a.PortID == b.PortID })
		},
		Append: func(dst []byte, ss []SubPort) []byte { return resource.AppendList(dst, ss, AppendSubPort) },
	}
}

// decodeSubPort reads one subport.  Which of type and id must be there is the rules' to say: removal needs neither.
func decodeSubPort(m map[string]any) (s SubPort, err error) {
	v, ok := m["port_id"]
	if !ok {
		return s, wrong("A valid port UUID must be specified")
	}
	if s.PortID, err = resource.UUID[ID]().Decode(v); err != nil {
		return s, err
	}
	if v, ok := m["segmentation_type"]; ok && v != nil {
		if s.SegmentationType, err = resource.Enum(SegmentationVLAN, SegmentationInherit).Decode(v); err != nil {
			return s, err
		}
	}
	if v, ok := m["segmentation_id"]; ok && v != nil {
		n, err := resource.ParseInt(v)
		if err != nil {
			return s, err
		}
		if n < 1 || n > 4094 {
			return s, wrong("Invalid segmentation ID: '%s' is not a VLAN tag between 1 and 4094", v)
		}
		s.SegmentationID = int(n)
	}
	return s, nil
}

// AppendSubPort writes a subport as a JSON object.
func AppendSubPort(dst []byte, s SubPort) []byte {
	dst = resource.AppendString(append(dst, `{"port_id":`...), s.PortID)
	dst = resource.AppendString(append(dst, `,"segmentation_type":`...), s.SegmentationType)
	dst = strconv.AppendInt(append(dst, `,"segmentation_id":`...), int64(s.SegmentationID), 10)
	return append(dst, '}')
}

// ParseSubPorts reads the list of a member action of a trunk.
func ParseSubPorts(v any) ([]SubPort, error) {
	list, err := subPorts().Decode(v)
	if err != nil {
		return nil, refuse("InvalidInput", "Invalid input for operation: %s.", err.Error())
	}
	return list, nil
}

// trunkDetails is what a parent port shows of its trunk; null on all other ports.
func trunkDetails() resource.Codec[*TrunkDetails] {
	return resource.Codec[*TrunkDetails]{
		Kind: "{trunk_id, sub_ports}, or null",
		Append: func(dst []byte, d *TrunkDetails) []byte {
			if d == nil {
				return append(dst, "null"...)
			}
			dst = resource.AppendString(append(dst, `{"trunk_id":`...), d.TrunkID)
			dst = append(dst, `,"sub_ports":[`...)
			for i, s := range d.SubPorts {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = AppendSubPort(dst, s)
				dst = resource.AppendString(append(dst[:len(dst)-1], `,"mac_address":`...), d.MACs[i].String())
				dst = append(dst, '}')
			}
			return append(dst, `]}`...)
		},
	}
}
