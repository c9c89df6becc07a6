package model

import (
	"cmp"

	"baryon/internal/resource"
)

// AvailabilityZone is a zone that agents of a kind report: nothing is stored, it is there as long as they are.
type AvailabilityZone struct {
	Name     string
	Resource string // what may be placed in it: "network"
	State    string // ZoneAvailable or ZoneUnavailable
}

// States of an availability zone.
const (
	ZoneAvailable   = "available" // an agent of it works
	ZoneUnavailable = "unavailable"
)

// ZoneNetwork is the resource of zones of DHCP agents.
const ZoneNetwork = "network"

// AvailabilityZones defines the resource availability_zone.
var AvailabilityZones = resource.Define(
	resource.NewTable("availability_zone", func(z *AvailabilityZone) string { return z.Name + "/" + z.Resource }),
	"availability_zone", "availability_zones",
	resource.Attr("name", func(z *AvailabilityZone) *string { return &z.Name }, resource.String(maxName),
		resource.Filter, resource.Sort, resource.Ext("availability_zone")),
	resource.Attr("resource", func(z *AvailabilityZone) *string { return &z.Resource }, resource.String(maxName),
		resource.Filter, resource.Sort, resource.Ext("availability_zone")),
	resource.Attr("state", func(z *AvailabilityZone) *string { return &z.State }, resource.String(maxName),
		resource.Filter, resource.Sort, resource.Ext("availability_zone")),
)

// zoneHints is a list of distinct zone names.
func zoneHints() resource.Codec[[]string] {
	return resource.Codec[[]string]{
		Kind: "list of names of availability zones",
		Decode: func(v any) ([]string, error) {
			list, err := asList(v, "availability zone hints")
			if err != nil {
				return nil, err
			}
			seen := make(map[string]bool, len(list))
			out := make([]string, 0, len(list))
			for _, item := range list {
				name, err := resource.String(maxName).Decode(item)
				switch {
				case err != nil:
					return nil, err
				case name == "":
					return nil, wrong("'%s' Blank strings are not permitted", item)
				case seen[name]:
					return nil, wrong("Duplicate items in the list: '%s'", item)
				}
				seen[name] = true
				out = append(out, name)
			}
			return out, nil
		},
		Append: func(dst []byte, names []string) []byte {
			return resource.AppendList(dst, names, resource.AppendString[string])
		},
	}
}

// CompareZones orders zones by name, then by resource.
func CompareZones(a, b *AvailabilityZone) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Resource, b.Resource))
}
