package model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"baryon/internal/resource"
)

// maxDescription is the length of a description in characters.
const maxDescription = 255

// identity is the first attributes of every object: who it is and whose.
func identity[T any](std func(*T) *Standard) resource.Attribute[T] {
	return resource.Group(
		resource.Attr("id", func(t *T) *ID { return &std(t).ID }, resource.UUID[ID](),
			resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex)),
		resource.Attr("project_id", func(t *T) *string { return &std(t).ProjectID }, resource.String(maxName),
			resource.CreateOnly, resource.Allocated, resource.Owner, resource.Alias("tenant_id"), resource.Filter, resource.Sort,
			resource.Indexed("project"), resource.Policy("another project: admin"), resource.Ext("project-id")),
	)
}

// standard is the last attributes of every object: description, times, revision, tags.
func standard[T any](std func(*T) *Standard) resource.Attribute[T] {
	return describedBy(std, maxDescription)
}

// describedBy is standard with a description of at most length characters.
func describedBy[T any](std func(*T) *Standard, length int) resource.Attribute[T] {
	tags := func(t *T) []string { return std(t).Tags }
	return resource.Group(
		stamped(std, length),
		resource.Attr("tags", func(t *T) *[]string { return &std(t).Tags }, tagList(), resource.Filter, resource.Ext("standard-attr-tag")),
		tagFilter("tags-any", "tags, comma separated: has any of them", tags, hasAny, true),
		tagFilter("not-tags", "tags, comma separated: lacks one of them", tags, hasAll, false),
		tagFilter("not-tags-any", "tags, comma separated: has none of them", tags, hasAny, false),
	)
}

// untagged is standard for objects without tags.
func untagged[T any](std func(*T) *Standard) resource.Attribute[T] {
	return stamped(std, maxDescription)
}

func stamped[T any](std func(*T) *Standard, length int) resource.Attribute[T] {
	return resource.Group(
		resource.Attr("description", func(t *T) *string { return &std(t).Description }, resource.String(length),
			resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("standard-attr-description")),
		resource.Attr("created_at", func(t *T) *time.Time { return &std(t).CreatedAt }, resource.Time(resource.LayoutStandard),
			resource.Filter, resource.Sort, resource.Ext("standard-attr-timestamp")),
		resource.Attr("updated_at", func(t *T) *time.Time { return &std(t).UpdatedAt }, resource.Time(resource.LayoutStandard),
			resource.Filter, resource.Sort, resource.Ext("standard-attr-timestamp")),
		resource.FilterBy("changed_since", "time; only objects changed then or later", func(values []string) (func(*T) bool, error) {
			since, err := parseSince(values)
			return func(t *T) bool { return !std(t).UpdatedAt.Truncate(time.Second).Before(since) }, err
		}, resource.Ext("standard-attr-timestamp")),
		resource.Attr("revision_number", func(t *T) *int64 { return &std(t).Revision }, resource.Int[int64](0, 1<<62),
			resource.Filter, resource.Sort, resource.Ext("standard-attr-revisions")),
	)
}

// parseSince reads the time of changed_since; of several the latest counts, for all of them would have to hold.
func parseSince(values []string) (since time.Time, err error) {
	for _, s := range values {
		t, err := parseTime(s)
		if err != nil {
			return since, err
		}
		if t.After(since) {
			since = t
		}
	}
	return since, nil
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z07", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, wrong("The changed_since filter must be a time in the form YYYY-MM-DDTHH:MM:SSZ, not '%s'", s)
}

// splitTags reads the values of a tag filter: comma separated lists, all of one set.
func splitTags(values []string) []string {
	var tags []string
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if t != "" {
				tags = append(tags, t)
			}
		}
	}
	return tags
}

func hasAll(have, want []string) bool {
	for _, t := range want {
		if !slices.Contains(have, t) {
			return false
		}
	}
	return true
}

func hasAny(have, want []string) bool {
	return slices.ContainsFunc(want, func(t string) bool { return slices.Contains(have, t) })
}

// tagList is the tags of an object; as a filter it wants all of them.
func tagList() resource.Codec[[]string] {
	return resource.Codec[[]string]{
		Kind: "list of strings",
		Append: func(dst []byte, tags []string) []byte {
			return resource.AppendList(dst, tags, resource.AppendString[string])
		},
		Match: func(values []string) (func([]string) bool, error) {
			want := splitTags(values)
			return func(have []string) bool { return hasAll(have, want) }, nil
		},
	}
}

func tagFilter[T any](name, kind string, tags func(*T) []string, test func(have, want []string) bool, verdict bool) resource.Attribute[T] {
	return resource.FilterBy(name, kind, func(values []string) (func(*T) bool, error) {
		want := splitTags(values)
		if len(want) == 0 {
			return nil, fmt.Errorf("no tags in '%s'", resource.Show(strings.Join(values, ",")))
		}
		return func(t *T) bool { return test(tags(t), want) == verdict }, nil
	}, resource.Ext("standard-attr-tag"))
}
