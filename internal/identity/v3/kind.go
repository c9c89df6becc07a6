package v3

import (
	"errors"
	"net/http"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// kind is what the five usual calls of one resource need to know about it.
type kind[T any] struct {
	one, many string // in paths, bodies and action names
	path      string // of the collection, "/v3/users"
	param     string // path value that holds the id
	table     *resource.Table[T]
	attrs     []attr
	see       rule // who may show one; nil: overseers

	prepare func(c *call, in body) error                  // outside the transaction, before build and patch; may change in
	build   func(c *call, in body) (*T, error)            // a new row with its id
	patch   func(row *T, in body) error                   // changes a copy
	check   func(tx store.Tx, in body, row, old *T) error // references and limits before the row is put; old is nil on create
	clear   func(tx store.Tx, row *T) error               // removes what goes with the row, or refuses
	show    func(row *T) map[string]any                   // without links
	taken   func(row *T) string                           // the 409 answer when a unique value is held by another row
	filters map[string]func(row *T) string                // query parameters
	scan    func(c *call, r store.Read, add func(*T))     // the rows that a list chooses from; nil: all
	keep    func(c *call, row *T) bool                    // a list's own condition
	created func(c *call, row *T, shown map[string]any)   // adds what is shown once
}

// mount adds the five routes of the kind.
func mount[T any](a *API, k *kind[T]) {
	see := k.see
	if see == nil {
		see = overseer
	}
	item := k.path + "/{" + k.param + "}"
	a.handle("GET "+k.path, "identity:list_"+k.many, overseer, k.list)
	a.handle("POST "+k.path, "identity:create_"+k.one, admin, k.create)
	a.handle("GET "+item, "identity:get_"+k.one, see, k.get)
	a.handle("PATCH "+item, "identity:update_"+k.one, admin, k.update)
	a.handle("DELETE "+item, "identity:delete_"+k.one, admin, k.remove)
}

// links is the links member of a list at the request's own URL.
func (c *call) links() map[string]any {
	self := c.base + c.r.URL.Path
	if c.r.URL.RawQuery != "" {
		self += "?" + c.r.URL.RawQuery
	}
	return map[string]any{"self": self, "next": nil, "previous": nil}
}

// render shows a row with its link.
func (k *kind[T]) render(c *call, row *T) map[string]any {
	out := k.show(row)
	out["links"] = map[string]any{"self": c.base + k.path + "/" + k.table.Key(row)}
	return out
}

// answerList writes {"<many>": [...], "links": {...}} of the rows.
func (k *kind[T]) answerList(c *call, rows []*T) error {
	items := make([]any, 0, len(rows))
	for _, row := range rows {
		items = append(items, k.render(c, row))
	}
	return c.reply(http.StatusOK, map[string]any{k.many: items, "links": c.links()})
}

func (k *kind[T]) list(c *call) error {
	var rows []*T
	q := c.r.URL.Query()
	add := func(row *T) {
		for param, values := range q {
			field, how, _ := strings.Cut(param, "__")
			get, ok := k.filters[field]
			if ok && !matches(get(row), values[0], how) {
				return
			}
		}
		if k.keep == nil || k.keep(c, row) {
			rows = append(rows, row)
		}
	}
	err := c.api.st.View(c, func(r store.Read) error {
		if k.scan != nil {
			k.scan(c, r, add)
			return nil
		}
		for row := range store.All(r, k.table) {
			add(row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.answerList(c, rows)
}

// matches compares a value with a filter: exactly, or as the suffix of the parameter's name says.
func matches(have, want, how string) bool {
	switch how {
	case "contains":
		return strings.Contains(have, want)
	case "icontains":
		return strings.Contains(strings.ToLower(have), strings.ToLower(want))
	case "startswith":
		return strings.HasPrefix(have, want)
	case "istartswith":
		return strings.HasPrefix(strings.ToLower(have), strings.ToLower(want))
	case "endswith":
		return strings.HasSuffix(have, want)
	case "iendswith":
		return strings.HasSuffix(strings.ToLower(have), strings.ToLower(want))
	case "iexact":
		return strings.EqualFold(have, want)
	case "":
		if have == "true" || have == "false" {
			return (have == "true") == truth(want)
		}
		return have == want
	}
	return true // an operator nobody has heard of filters nothing, as in Keystone
}

// truth reads a query parameter as Keystone does: present and not a no.
func truth(s string) bool {
	switch strings.ToLower(s) {
	case "0", "false", "no", "off":
		return false
	}
	return true
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func (k *kind[T]) get(c *call) error {
	id := c.r.PathValue(k.param)
	var row *T
	err := c.api.st.View(c, func(r store.Read) (err error) {
		row, err = find(r, k.table, k.one, id)
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{k.one: k.render(c, row)})
}

// find gets a row or answers 404.
func find[T any](r store.Read, t *resource.Table[T], noun, id string) (*T, error) {
	row, ok := store.Get(r, t, id)
	if !ok {
		return nil, notFound(noun, id)
	}
	return row, nil
}

func (k *kind[T]) create(c *call) error {
	in, err := c.input(k.one, k.attrs, true)
	if err != nil {
		return err
	}
	if k.prepare != nil {
		if err := k.prepare(c, in); err != nil {
			return err
		}
	}
	row, err := k.build(c, in)
	if err != nil {
		return err
	}
	_, err = c.api.st.Update(c, func(tx store.Tx) error {
		if _, taken := store.Get(tx, k.table, k.table.Key(row)); taken { // only where clients choose ids
			return fail(http.StatusConflict, "Conflict occurred attempting to store %s - Duplicate ID, %s.", k.one, clip(k.table.Key(row)))
		}
		if k.check != nil {
			if err := k.check(tx, in, row, nil); err != nil {
				return err
			}
		}
		store.Put(tx, k.table, row)
		return nil
	})
	if err != nil {
		return k.conflict(err, row)
	}
	shown := k.render(c, row)
	if k.created != nil {
		k.created(c, row, shown)
	}
	return c.reply(http.StatusCreated, map[string]any{k.one: shown})
}

// conflict turns the store's word that a value is taken into the answer 409.
func (k *kind[T]) conflict(err error, row *T) error {
	var u *store.UniqueError
	if errors.As(err, &u) && u.Table == k.table.Name && row != nil {
		return fail(http.StatusConflict, "Conflict occurred attempting to store %s - %s.", k.one, k.taken(row))
	}
	return err
}

func (k *kind[T]) update(c *call) error {
	id := c.r.PathValue(k.param)
	in, err := c.input(k.one, k.attrs, false)
	if err != nil {
		return err
	}
	if v, given := in["id"]; given && v != id {
		return badRequest("Cannot change %s ID", k.one)
	}
	if k.prepare != nil {
		if err := k.prepare(c, in); err != nil {
			return err
		}
	}
	var row *T
	_, err = c.api.st.Update(c, func(tx store.Tx) error {
		old, err := find(tx, k.table, k.one, id)
		if err != nil {
			return err
		}
		changed := *old
		row = &changed
		if err := k.patch(row, in); err != nil {
			return err
		}
		if k.check != nil {
			if err := k.check(tx, in, row, old); err != nil {
				return err
			}
		}
		store.Put(tx, k.table, row)
		return nil
	})
	if err != nil {
		return k.conflict(err, row)
	}
	return c.reply(http.StatusOK, map[string]any{k.one: k.render(c, row)})
}

func (k *kind[T]) remove(c *call) error {
	id := c.r.PathValue(k.param)
	_, err := c.api.st.Update(c, func(tx store.Tx) error {
		row, err := find(tx, k.table, k.one, id)
		if err != nil {
			return err
		}
		if k.clear != nil {
			if err := k.clear(tx, row); err != nil {
				return err
			}
		}
		store.Delete(tx, k.table, id)
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}

// drop deletes every row that stands under a value of an index.
func drop[T any](tx store.Tx, t *resource.Table[T], index, value string) {
	var keys []string
	for row := range store.Find(tx, t, index, value) {
		keys = append(keys, t.Key(row))
	}
	for _, key := range keys {
		store.Delete(tx, t, key)
	}
}

// homeDomain is the domain of something that is created without one: that of the caller's scope.
func (c *call) homeDomain(in body) string {
	if d := in.str("domain_id"); d != "" {
		return d
	}
	if c.s.Domain != nil {
		return c.s.Domain.ID
	}
	return identity.DefaultDomainID
}

// domainExists refuses a reference to a domain that is not there.
func domainExists(tx store.Tx, id string) error {
	_, err := find(tx, identity.DomainTable, "domain", id)
	return err
}

// fixed refuses to change an attribute that is set for good.
func fixed(in body, attr, have, what string) error {
	if in.has(attr) && in.str(attr) != have {
		return badRequest("Cannot change %s", what)
	}
	return nil
}

// none shows an empty text as null.
func none(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orEmpty[M ~map[string]V, V any](m M) M {
	if m == nil {
		return M{}
	}
	return m
}

func orNone(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}
