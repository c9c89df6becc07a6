package resource

import (
	"cmp"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// KeyIndex is the name Probe uses for the table's key.
const KeyIndex = "key"

// Query is a decoded query string of a list.
type Query[T any] struct {
	Fields  []string // empty: all
	Limit   int      // rows of a page; 0: no limit
	Marker  string   // key of the row the page starts after (Reverse: ends before); empty: none
	Reverse bool
	Probes  []Probe // indexes that can find the rows; the caller reads the one with fewest rows, or the whole table if none
	// NeedsPresented says that rows must be presented before MatchPresented and Compare.
	NeedsPresented bool

	key     func(*T) string
	stored  []func(*T) bool
	shown   []func(*T) bool
	sorting []sorting[T]
	params  url.Values
}

// Probe is a set of values in one index (KeyIndex: the table's key) under which every matching row stands.
type Probe struct {
	Index  string
	Values []string
}

type sorting[T any] struct {
	compare func(a, b *T) int
	desc    bool
}

// control lists the parameters that are no filters.
var control = []string{"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}

// ParseQuery reads a query string.  maxLimit bounds the size of a page; 0: no bound, and no paging unless asked for.
func (d *Definition[T]) ParseQuery(params url.Values, maxLimit int) (*Query[T], error) {
	q := &Query[T]{key: d.Table.Key, params: params, Marker: params.Get("marker")}
	q.Fields = Fields(params)
	if err := q.parsePage(params, maxLimit); err != nil {
		return nil, err
	}
	if err := d.parseSort(q, params); err != nil {
		return nil, err
	}
	return q, d.parseFilters(q, params)
}

// Fields reads the attributes that a query string selects; none: all.
func Fields(params url.Values) []string {
	var fields []string
	for _, list := range params["fields"] {
		for f := range strings.SplitSeq(list, ",") {
			if f != "" {
				fields = append(fields, f)
			}
		}
	}
	return fields
}

func (q *Query[T]) parsePage(params url.Values, maxLimit int) error {
	if s := params.Get("limit"); s != "" {
		n, err := ParseInt(s)
		if err != nil || n < 0 {
			return &BadRequest{Type: "BadRequest",
				Message: "Bad limit request: Limit must be an integer 0 or greater and not '" + Show(s) + "'."}
		}
		q.Limit = int(min(n, math.MaxInt32))
	}
	if maxLimit > 0 && (q.Limit == 0 || q.Limit > maxLimit) {
		q.Limit = maxLimit
	}
	switch strings.ToLower(params.Get("page_reverse")) {
	case "1", "t", "true", "on", "y", "yes":
		q.Reverse = true
	}
	return nil
}

func (d *Definition[T]) parseSort(q *Query[T], params url.Values) error {
	keys, dirs := params["sort_key"], params["sort_dir"]
	if len(keys) != len(dirs) {
		return Refuse("The number of sort_keys and sort_dirs must be same")
	}
	used := map[int]bool{}
	for i, key := range keys {
		at, ok := d.byName[key]
		if !ok || !d.attrs[at].Traits.Sort {
			return Refuse("['%s'] is invalid attribute for sort_keys", Show(key))
		}
		if dirs[i] != "asc" && dirs[i] != "desc" {
			return Refuse("['%s'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'", Show(dirs[i]))
		}
		if used[at] { // sorting by it again changes nothing
			continue
		}
		used[at] = true
		a := &d.attrs[at]
		q.sorting = append(q.sorting, sorting[T]{compare: a.compare, desc: dirs[i] == "desc"})
		q.NeedsPresented = q.NeedsPresented || a.Traits.Presented
	}
	return nil
}

func (d *Definition[T]) parseFilters(q *Query[T], params url.Values) error {
	var wrong []string
	for name := range params {
		if slices.Contains(control, name) {
			continue
		}
		if i, ok := d.byName[name]; !ok || !d.attrs[i].Traits.Filter {
			wrong = append(wrong, "'"+Show(name)+"'")
		}
	}
	if wrong != nil {
		slices.Sort(wrong)
		return Refuse("[%s] is invalid attribute for filtering", Show(strings.Join(wrong, ", ")))
	}
	for i := range d.attrs {
		a := &d.attrs[i]
		if err := q.filter(a, params[a.Name]); err != nil {
			return err
		}
		if a.Traits.Alias != "" {
			if err := q.filter(a, params[a.Traits.Alias]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *Query[T]) filter(a *Attribute[T], values []string) error {
	if len(values) == 0 {
		return nil
	}
	m, err := a.match(values)
	if err != nil {
		return invalid(a.Name, err)
	}
	if a.Traits.Presented {
		q.shown = append(q.shown, m)
		q.NeedsPresented = true
		return nil
	}
	q.stored = append(q.stored, m)
	if a.Traits.probe == nil {
		return nil
	}
	if at := a.Traits.probe(values); at != nil {
		at = slices.Clone(at)
		slices.Sort(at)
		q.Probes = append(q.Probes, Probe{Index: a.Traits.Index, Values: slices.Compact(at)})
	}
	return nil
}

// Match tells whether a stored row passes the filters that need no presented row.
func (q *Query[T]) Match(row *T) bool { return all(q.stored, row) }

// MatchPresented tells whether a presented row passes the rest of the filters.
func (q *Query[T]) MatchPresented(row *T) bool { return all(q.shown, row) }

func all[T any](checks []func(*T) bool, row *T) bool {
	for _, ok := range checks {
		if !ok(row) {
			return false
		}
	}
	return true
}

// Compare is the order of the list: by the sort keys, then by the row's key, so that it is total.
func (q *Query[T]) Compare(a, b *T) int {
	for _, s := range q.sorting {
		c := s.compare(a, b)
		if c == 0 {
			continue
		}
		if s.desc {
			return -c
		}
		return c
	}
	return cmp.Compare(q.key(a), q.key(b))
}

// InKeyOrder tells whether the page is the first Limit rows behind the marker in the order of their keys, so that who reads rows in
// that order may stop when the page is full.
func (q *Query[T]) InKeyOrder() bool { return q.Limit > 0 && !q.Reverse && len(q.sorting) == 0 }

// Page sorts the rows in place and returns the wanted page of them.  marker is the row named by Marker, nil if none is given; it
// need not be among the rows.
func (q *Query[T]) Page(rows []*T, marker *T) []*T {
	if !slices.IsSortedFunc(rows, q.Compare) {
		slices.SortFunc(rows, q.Compare)
	}
	if marker != nil {
		at, found := slices.BinarySearchFunc(rows, marker, q.Compare)
		switch {
		case q.Reverse:
			rows = rows[:at]
		case found:
			rows = rows[at+1:]
		default:
			rows = rows[at:]
		}
	}
	if q.Limit == 0 || len(rows) <= q.Limit {
		return rows
	}
	if q.Reverse {
		return rows[len(rows)-q.Limit:]
	}
	return rows[:q.Limit]
}

// Link is one entry of "ports_links".
type Link struct{ Rel, Href string }

// Links are the links of a page under the collection's URL: "next" when the page is full or was read backwards, "previous"
// unless a backwards page came short.  No limit, no links.
func (q *Query[T]) Links(page []*T, collection string) []Link {
	if q.Limit == 0 {
		return nil
	}
	full := len(page) >= q.Limit
	var links []Link
	if full || q.Reverse {
		links = append(links, Link{"next", q.link(collection, page, false)})
	}
	if full || !q.Reverse {
		links = append(links, Link{"previous", q.link(collection, page, true)})
	}
	return links
}

func (q *Query[T]) link(collection string, page []*T, back bool) string {
	v := url.Values{}
	for name, values := range q.params {
		if name != "marker" && name != "page_reverse" {
			v[name] = values
		}
	}
	if _, ok := v["limit"]; !ok {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if len(page) > 0 {
		edge := page[len(page)-1]
		if back {
			edge = page[0]
		}
		v.Set("marker", q.key(edge))
	}
	if back {
		v.Set("page_reverse", "True")
	}
	return collection + "?" + v.Encode()
}

// AppendLinks appends links as a JSON array.
func AppendLinks(dst []byte, links []Link) []byte {
	return AppendList(dst, links, func(dst []byte, l Link) []byte {
		dst = AppendString(append(dst, `{"rel":`...), l.Rel)
		dst = AppendString(append(dst, `,"href":`...), l.Href)
		return append(dst, '}')
	})
}
