package api

import (
	"iter"
	"math"
	"net/http"
	"slices"

	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// collectionOf serves a resource under /v2.0/<path>.
type collectionOf[T any] struct {
	neutron.Kind[T]
	srv  *server
	path string
}

// list answers GET on the collection.
func (c *collectionOf[T]) list(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	lq, err := c.Def.ParseQuery(params, c.srv.MaxLimit)
	if err != nil {
		return err
	}
	if c.Prepare != nil {
		if err := c.Prepare(q.Context(), q.caller, slices.Concat(params["project_id"], params["tenant_id"])); err != nil {
			return err
		}
	}
	enc := c.Def.Encoder(lq.Fields, q.operator())
	var page []*T
	err = c.srv.Store.View(q.Context(), func(r store.Read) error {
		var err error
		page, err = c.page(q, r, lq, enc.NeedsPresented)
		return err
	})
	if err != nil {
		return err
	}
	return sendPage(q, c.Def, enc, lq, c.path, page)
}

// page reads, filters, sorts and cuts the list; the rows it returns are presented if present says so.
func (c *collectionOf[T]) page(q *request, r store.Read, lq *resource.Query[T], present bool) ([]*T, error) {
	early := lq.NeedsPresented
	var marker *T
	if lq.Marker != "" {
		row, ok := c.get(q, r, lq.Marker)
		if !ok {
			return nil, notFound(c.Def.Singular, lq.Marker)
		}
		if early {
			row = c.Present(r, q.caller, row)
		}
		marker = row
	}
	all, ordered := candidates(r, c.Def.Table, lq.Probes)
	most := math.MaxInt // rows that are enough
	if ordered && lq.InKeyOrder() {
		most = lq.Limit
	}
	var rows []*T
	for row := range all {
		if most != math.MaxInt && marker != nil && c.Def.Table.Key(row) <= lq.Marker {
			continue
		}
		if !c.Visible(r, q.caller, row) || !lq.Match(row) {
			continue
		}
		if early {
			if row = c.Present(r, q.caller, row); !lq.MatchPresented(row) {
				continue
			}
		}
		if rows = append(rows, row); len(rows) == most {
			break
		}
	}
	page := lq.Page(rows, marker)
	if !present || early {
		return page, nil
	}
	shown := make([]*T, len(page))
	for i, row := range page {
		shown[i] = c.Present(r, q.caller, row)
	}
	return shown, nil
}

// candidates are rows among which all that the probes allow are: from the probe with fewest rows, or the whole table.  ordered tells
// whether they come in the order of their keys.
func candidates[T any](r store.Read, t *resource.Table[T], probes []resource.Probe) (rows iter.Seq[*T], ordered bool) {
	best, fewest := -1, math.MaxInt
	for i, p := range probes {
		n := len(p.Values)
		if p.Index != resource.KeyIndex {
			n = 0
			for _, v := range p.Values {
				n += store.Count(r, t, p.Index, v)
			}
		}
		if n < fewest {
			best, fewest = i, n
		}
	}
	if best < 0 {
		return store.All(r, t), true
	}
	p := probes[best]
	return func(yield func(*T) bool) { probed(r, t, p, yield) }, p.Index == resource.KeyIndex || len(p.Values) == 1
}

// probed yields the rows of a probe, each once, although a row may stand under several of its values.
func probed[T any](r store.Read, t *resource.Table[T], p resource.Probe, yield func(*T) bool) {
	seen := map[string]bool{}
	several := len(p.Values) > 1
	for _, v := range p.Values {
		if p.Index == resource.KeyIndex {
			if row, ok := store.Get(r, t, v); ok && !yield(row) {
				return
			}
			continue
		}
		for row := range store.Find(r, t, p.Index, v) {
			if several {
				key := t.Key(row)
				if seen[key] {
					continue
				}
				seen[key] = true
			}
			if !yield(row) {
				return
			}
		}
	}
}

// sendPage answers a list with its links.
func sendPage[T any](q *request, def *resource.Definition[T], enc *resource.Encoder[T], lq *resource.Query[T], path string, page []*T) error {
	links := lq.Links(page, q.base()+prefix+"/"+path)
	return q.build(http.StatusOK, func(b []byte) []byte {
		b = resource.AppendString(append(b, '{'), def.Plural)
		b = enc.AppendAll(append(b, ':'), page)
		if links != nil {
			b = resource.AppendString(append(b, ','), def.Plural+"_links")
			b = resource.AppendLinks(append(b, ':'), links)
		}
		return append(b, '}')
	})
}

// get finds a row that the caller may know of.
func (c *collectionOf[T]) get(q *request, r store.Read, id string) (*T, bool) {
	row, ok := store.Get(r, c.Def.Table, id)
	return row, ok && c.Visible(r, q.caller, row)
}

// show answers GET on an item.
func (c *collectionOf[T]) show(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	var shown *T
	err = c.srv.Store.View(q.Context(), func(r store.Read) error {
		row, ok := c.get(q, r, q.args[0])
		if !ok {
			return notFound(c.Def.Singular, q.args[0])
		}
		shown = c.Present(r, q.caller, row)
		return nil
	})
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, c.Def.Singular, c.Def.Encoder(resource.Fields(params), q.operator()).Append, shown)
}

// create answers POST on the collection, for one or in bulk.
func (c *collectionOf[T]) create(q *request) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	in, bulk, err := c.Def.ParseCreate(body, q.creator())
	if err != nil {
		return err
	}
	rows, err := c.Create(q.Context(), q.caller, in)
	if err != nil {
		return err
	}
	enc := c.Def.Encoder(nil, q.operator())
	if !bulk {
		return sendOne(q, http.StatusCreated, c.Def.Singular, enc.Append, c.present(q, rows[0]))
	}
	r := c.srv.Store.Snapshot()
	return q.build(http.StatusCreated, func(b []byte) []byte {
		b = resource.AppendString(append(b, '{'), c.Def.Plural)
		b = resource.AppendList(append(b, ':'), rows, func(b []byte, row *T) []byte {
			return enc.Append(b, c.Present(r, q.caller, row))
		})
		return append(b, '}')
	})
}

// update answers PUT on an item.
func (c *collectionOf[T]) update(q *request) error {
	match, err := q.ifMatch()
	if err != nil {
		return err
	}
	body, err := q.body()
	if err != nil {
		return err
	}
	in, err := c.Def.ParseUpdate(body)
	if err != nil {
		return err
	}
	row, err := c.Update(q.Context(), q.caller, q.args[0], in, match)
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, c.Def.Singular, c.Def.Encoder(nil, q.operator()).Append, c.present(q, row))
}

// delete answers DELETE on an item.
// delete refuses a body, as Neutron does for resources.  Other routes take one and ignore it: openstacksdk sends one when it takes a
// network from a DHCP agent.
func (c *collectionOf[T]) delete(q *request) error {
	if hasBody(q.Request) {
		return badRequest("Request body is not supported in DELETE")
	}
	match, err := q.ifMatch()
	if err != nil {
		return err
	}
	if err := c.Delete(q.Context(), q.caller, q.args[0], match); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

// present fills in what is computed, after a write of our own: the local snapshot shows it.
func (c *collectionOf[T]) present(q *request, row *T) *T {
	return c.Present(c.srv.Store.Snapshot(), q.caller, row)
}
