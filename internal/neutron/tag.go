package neutron

import (
	"context"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// maxTags is how many tags an object has at most.
const maxTags = 50

// tagged is how the tags of one collection are reached.
type tagged struct {
	get  func(r store.Read, c *identity.Caller, id model.ID) (*model.Standard, error)
	can  func(r store.Read, c *identity.Caller, id model.ID) bool
	edit func(tx store.Tx, id model.ID, f func(*model.Standard))
}

// collections are the collections with tags.
func collections(name string) (tagged, error) {
	switch name {
	case "networks":
		return tagsOf(getNetwork, model.NetworkTable, func(n *model.Network) *model.Standard { return &n.Standard },
			func(store.Read, *model.Network) string { return "" }), nil
	case "subnets":
		return tagsOf(getSubnet, model.SubnetTable, func(s *model.Subnet) *model.Standard { return &s.Standard },
			func(r store.Read, s *model.Subnet) string {
				if n, ok := store.Get(r, model.NetworkTable, string(s.NetworkID)); ok {
					return n.ProjectID
				}
				return ""
			}), nil
	case "ports":
		return tagsOf(getPort, model.PortTable, func(p *model.Port) *model.Standard { return &p.Standard },
			func(store.Read, *model.Port) string { return "" }), nil
	case "security-groups":
		return tagsOf(getGroup, model.SecurityGroupTable, func(g *model.SecurityGroup) *model.Standard { return &g.Standard },
			func(store.Read, *model.SecurityGroup) string { return "" }), nil
	case "security-group-rules":
		return tagsOf(getRule, model.SecurityGroupRuleTable, func(r *model.SecurityGroupRule) *model.Standard { return &r.Standard },
			func(r store.Read, rule *model.SecurityGroupRule) string {
				if g, ok := store.Get(r, model.SecurityGroupTable, string(rule.SecurityGroupID)); ok {
					return g.ProjectID
				}
				return ""
			}), nil
	case "qos/policies", "policies":
		return tagsOf(getQoSPolicy, model.QoSPolicyTable, func(p *model.QoSPolicy) *model.Standard { return &p.Standard },
			func(store.Read, *model.QoSPolicy) string { return "" }), nil
	case "network_segment_ranges":
		return tagsOf(getRange, model.SegmentRangeTable, func(r *model.SegmentRange) *model.Standard { return &r.Standard },
			func(store.Read, *model.SegmentRange) string { return "" }), nil
	case "trunks":
		return tagsOf(getTrunk, model.TrunkTable, func(t *model.Trunk) *model.Standard { return &t.Standard },
			func(store.Read, *model.Trunk) string { return "" }), nil
	}
	return tagged{}, NotFound("HTTPNotFound", "The resource could not be found.")
}

// tagsOf ties the tags of one kind of object to its table.  other is a further project that may write them.
func tagsOf[T any](
	get func(store.Read, *identity.Caller, model.ID) (*T, error), table *resource.Table[T],
	std func(*T) *model.Standard, other func(store.Read, *T) string,
) tagged {
	return tagged{
		get: func(r store.Read, c *identity.Caller, id model.ID) (*model.Standard, error) {
			row, err := get(r, c, id)
			if err != nil {
				return nil, err
			}
			return std(row), nil
		},
		can: func(r store.Read, c *identity.Caller, id model.ID) bool {
			row, ok := store.Get(r, table, string(id))
			if !ok {
				return false
			}
			also := other(r, row)
			return c.CanWrite(std(row).ProjectID) || also != "" && c.CanWrite(also)
		},
		edit: func(tx store.Tx, id model.ID, f func(*model.Standard)) {
			row, ok := store.Get(tx, table, string(id))
			if !ok {
				return
			}
			next := *row
			f(std(&next))
			store.Put(tx, table, &next)
		},
	}
}

// TagsOf returns the object's tags.
func (s *Service) TagsOf(ctx context.Context, c *identity.Caller, collection, id string) ([]string, error) {
	t, err := collections(collection)
	if err != nil {
		return nil, err
	}
	out := []string{}
	err = s.st.View(ctx, func(r store.Read) error {
		st, err := t.get(r, c, model.ID(id))
		if err == nil {
			out = append(out, st.Tags...)
		}
		return err
	})
	return out, err
}

// ReplaceTags sets the object's tags and returns them.
func (s *Service) ReplaceTags(ctx context.Context, c *identity.Caller, collection, id string, tags []string) ([]string, error) {
	return s.editTags(ctx, c, collection, id, func([]string) ([]string, error) { return tags, nil })
}

// AddTags adds to the object's tags and returns all.
func (s *Service) AddTags(ctx context.Context, c *identity.Caller, collection, id string, tags []string) ([]string, error) {
	return s.editTags(ctx, c, collection, id, func(old []string) ([]string, error) { return slices.Concat(old, tags), nil })
}

// RemoveTag removes one tag; TagNotFound if the object lacks it.
func (s *Service) RemoveTag(ctx context.Context, c *identity.Caller, collection, id, tag string) error {
	_, err := s.editTags(ctx, c, collection, id, func(old []string) ([]string, error) {
		i := slices.Index(old, tag)
		if i < 0 {
			return nil, NotFound("TagNotFound", "Tag %s could not be found.", tag)
		}
		return slices.Delete(slices.Clone(old), i, i+1), nil
	})
	return err
}

func (s *Service) editTags(
	ctx context.Context, c *identity.Caller, collection, id string, change func(old []string) ([]string, error),
) ([]string, error) {
	t, err := collections(collection)
	if err != nil {
		return nil, err
	}
	out := []string{}
	o := s.newOp(c)
	err = o.run(ctx, nil, func(tx store.Tx) error {
		st, err := t.get(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("update_"+strings.ReplaceAll(collection, "-", "_")+"_tags", t.can(tx, c, model.ID(id))).err(); err != nil {
			return err
		}
		tags, err := change(st.Tags)
		if err != nil {
			return err
		}
		tags = slices.Compact(slices.Sorted(slices.Values(tags)))
		if len(tags) > maxTags {
			return InvalidInput("The number of tags exceeds the limit %d of one resource", maxTags)
		}
		out = append([]string{}, tags...)
		if slices.Equal(tags, st.Tags) {
			return nil
		}
		t.edit(tx, model.ID(id), func(st *model.Standard) {
			st.Tags = tags
			o.touch(st)
		})
		return nil
	})
	return out, err
}
