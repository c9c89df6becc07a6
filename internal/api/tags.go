package api

import (
	"net/http"
	"slices"
	"unicode/utf8"

	"baryon/internal/neutron"
	"baryon/internal/resource"
)

// maxTag is the length of a tag in characters.
const maxTag = 255

// tagRoutes are the tags below the items of a collection.
func (s *server) tagRoutes(plural string) []route {
	t := &tagged{srv: s, plural: plural}
	all := map[string]handler{
		http.MethodGet: t.list, http.MethodPut: t.replace, http.MethodPost: t.add, http.MethodDelete: t.clear,
	}
	one := map[string]handler{http.MethodGet: t.has, http.MethodPut: t.put, http.MethodDelete: t.remove}
	return []route{on("/"+plural+"/{}/tags", all), on("/"+plural+"/{}/tags/{}", one)}
}

type tagged struct {
	srv    *server
	plural string
}

func (t *tagged) list(q *request) error {
	tags, err := t.srv.Services.Tags.TagsOf(q.Context(), q.caller, t.plural, q.args[0])
	return sendTags(q, tags, err)
}

func (t *tagged) replace(q *request) error {
	tags, err := readTags(q)
	if err != nil {
		return err
	}
	tags, err = t.srv.Services.Tags.ReplaceTags(q.Context(), q.caller, t.plural, q.args[0], tags)
	return sendTags(q, tags, err)
}

func (t *tagged) add(q *request) error {
	tags, err := readTags(q)
	if err != nil {
		return err
	}
	tags, err = t.srv.Services.Tags.AddTags(q.Context(), q.caller, t.plural, q.args[0], tags)
	return sendTags(q, tags, err)
}

func (t *tagged) clear(q *request) error {
	if _, err := t.srv.Services.Tags.ReplaceTags(q.Context(), q.caller, t.plural, q.args[0], nil); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

func (t *tagged) has(q *request) error {
	tags, err := t.srv.Services.Tags.TagsOf(q.Context(), q.caller, t.plural, q.args[0])
	if err != nil {
		return err
	}
	if !slices.Contains(tags, q.args[1]) {
		return neutron.NotFound("TagNotFound", "Tag %s could not be found.", resource.Show(q.args[1]))
	}
	return q.sendEmpty(http.StatusNoContent)
}

func (t *tagged) put(q *request) error {
	if err := checkTag(q.args[1]); err != nil {
		return err
	}
	if _, err := t.srv.Services.Tags.AddTags(q.Context(), q.caller, t.plural, q.args[0], q.args[1:]); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusCreated)
}

func (t *tagged) remove(q *request) error {
	if err := t.srv.Services.Tags.RemoveTag(q.Context(), q.caller, t.plural, q.args[0], q.args[1]); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

// readTags reads {"tags": ["a", ...]}.
func readTags(q *request) ([]string, error) {
	m, err := q.topObject()
	if err != nil {
		return nil, err
	}
	list, ok := m["tags"].([]any)
	if !ok || len(m) != 1 {
		return nil, neutron.InvalidInput("the body must be {'tags': [...]}")
	}
	tags := make([]string, 0, len(list))
	seen := make(map[string]bool, len(list))
	for _, v := range list {
		tag, ok := v.(string)
		if !ok {
			return nil, neutron.InvalidInput("'%s' is not a valid string", resource.Show(v))
		}
		if err := checkTag(tag); err != nil {
			return nil, err
		}
		if seen[tag] {
			return nil, neutron.InvalidInput("Duplicate items in the list: '%s'", resource.Show(tag))
		}
		seen[tag] = true
		tags = append(tags, tag)
	}
	return tags, nil
}

func checkTag(tag string) error {
	switch {
	case tag == "":
		return neutron.InvalidInput("a tag cannot be empty")
	case utf8.RuneCountInString(tag) > maxTag:
		return neutron.InvalidInput("'%s' exceeds maximum length of %d", resource.Show(tag), maxTag)
	}
	return nil
}

func sendTags(q *request, tags []string, err error) error {
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, "tags", func(b []byte, tags []string) []byte {
		return resource.AppendList(b, tags, resource.AppendString[string])
	}, tags)
}
