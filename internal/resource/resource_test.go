package resource

import (
	"encoding/json"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// thing is a row to try the kit on.
type thing struct {
	ID, Name, Owner string
	N               int
	At              time.Time
}

func thingTable() *Table[thing] {
	return NewTable("thing", func(t *thing) string { return t.ID }).Index("name", func(t *thing) []string { return []string{t.Name} })
}

func things() *Definition[thing] {
	return Define(thingTable(), "thing", "things",
		Attr("id", func(t *thing) *string { return &t.ID }, UUID[string](), Filter, Sort, Indexed(KeyIndex)),
		Attr("name", func(t *thing) *string { return &t.Name }, String(10), Writable, Default("unnamed"), Filter, Sort, Indexed("name")),
		Attr("n", func(t *thing) *int { return &t.N }, Int[int](0, 9), Writable, Default(3), Filter, Sort),
		Attr("owner", func(t *thing) *string { return &t.Owner }, String(10), CreateOnly, Allocated, Owner, Alias("holder"), Filter),
		Derived("at", func(t *thing) time.Time { return t.At }, Time(LayoutStandard), Sort),
	)
}

func TestStringsAreJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		var back string
		if err := json.Unmarshal(AppendString(nil, s), &back); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if want := strings.ToValidUTF8(strings.Map(func(r rune) rune { return r }, s), "\ufffd"); back != want {
			t.Fatalf("%q came back as %q, want %q", s, back, want)
		}
	})
}

func TestObjectsAreJSON(t *testing.T) {
	in := map[string]any{"b": true, "a": nil, "n": json.Number("1.50"), "i": 7, "l": []any{"x", 1.5, map[string]any{}}, "s": []string{"y"}, "bad": math.NaN()}
	want := `{"a":null,"b":true,"bad":null,"i":7,"l":["x",1.5,{}],"n":1.50,"s":["y"]}`
	if got := string(AppendObject(nil, in)); got != want {
		t.Errorf("got %s", got)
	}
}

func TestUUIDs(t *testing.T) {
	for in, want := range map[string]string{
		"0000000A-0000-4000-8000-00000000000b":   "0000000a-0000-4000-8000-00000000000b",
		"0000000a0000400080000000000000ff":       "0000000a-0000-4000-8000-0000000000ff",
		"":                                       "",
		"0000000a0000400080000000000000f":        "",
		"0000000a0000400080000000000000fff":      "",
		"0000000a-0000-4000-8000-0000000000fg":   "",
		"0000000a-0000-4000-80000000-000000ff":   "",
		"-000000a-0000-4000-8000-0000000000ff":   "",
		"0000000a-0000-4000-8000-0000000000ffff": "",
		"------------------------------------":   "",
	} {
		if got, err := ParseUUID(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestCreateFillsDefaultsAndOwner(t *testing.T) {
	d := things()
	in, bulk, err := d.ParseCreate([]byte(`{"things":[{},{"name":"x","n":"4","holder":"o"}]}`), Creator{ProjectID: "o"})
	if err != nil || !bulk {
		t.Fatal(bulk, err)
	}
	want := []thing{{Name: "unnamed", N: 3, Owner: "o"}, {Name: "x", N: 4, Owner: "o"}}
	for i, w := range want {
		if !reflect.DeepEqual(in[i].Value, w) {
			t.Errorf("%d: %+v, want %+v", i, in[i].Value, w)
		}
	}
	if in[0].Has("name") || in[0].Has("owner") || !in[1].Has("owner") || in[1].Has("holder") {
		t.Errorf("given: %v, %v", in[0].Given(), in[1].Given())
	}
	if d.Project(&in[1].Value) != "o" {
		t.Error("the owner is lost")
	}
}

func TestProbesNameTheirIndex(t *testing.T) {
	for query, want := range map[string][]Probe{
		"":                     nil,
		"name=b&name=a&name=b": {{"name", []string{"a", "b"}}},
		"name=&name=a":         nil, // the empty name is not looked up
		"id=2&name=a":          {{KeyIndex, []string{"2"}}, {"name", []string{"a"}}},
		"n=1&owner=o&holder=p": nil,
	} {
		params, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := things().ParseQuery(params, 0)
		if err != nil || !reflect.DeepEqual(q.Probes, want) {
			t.Errorf("?%s: %v, %v", query, q, err)
		}
	}
}

// TestPagesAreThePartsOfTheList reads random lists page by page, forwards and backwards: together the pages are the list.
func TestPagesAreThePartsOfTheList(t *testing.T) {
	d := things()
	rapid.Check(t, func(t *rapid.T) {
		var rows []*thing
		for i := range rapid.IntRange(0, 20).Draw(t, "rows") {
			rows = append(rows, &thing{ID: string(rune('a' + i)), N: rapid.IntRange(0, 3).Draw(t, "n")})
		}
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		dir := rapid.SampledFrom([]string{"asc", "desc"}).Draw(t, "dir")
		query := func(marker, reverse string) *Query[thing] {
			q, err := d.ParseQuery(url.Values{"sort_key": {"n"}, "sort_dir": {dir}, "limit": {string(rune('0' + limit))},
				"marker": {marker}, "page_reverse": {reverse}}, 0)
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		full := query("", "")
		full.Limit = 0
		want := ids(full.Page(append([]*thing(nil), rows...), nil))
		for _, reverse := range []string{"", "True"} {
			got, marker := "", (*thing)(nil)
			for range len(rows) + 2 {
				at := ""
				if marker != nil {
					at = marker.ID
				}
				page := query(at, reverse).Page(append([]*thing(nil), rows...), marker)
				if len(page) == 0 {
					break
				}
				if reverse == "" {
					got, marker = got+ids(page), page[len(page)-1]
				} else {
					got, marker = ids(page)+got, page[0]
				}
			}
			if got != want {
				t.Fatalf("reverse %q: pages %q, list %q", reverse, got, want)
			}
		}
	})
}

func ids(rows []*thing) string {
	var s string
	for _, r := range rows {
		s += r.ID
	}
	return s
}

func TestLintFindsMistakes(t *testing.T) {
	name := func(t *thing) *string { return &t.Name }
	for want, a := range map[string]Attribute[thing]{
		"thing: x default 7 is a int":                          Attr("x", name, String(5), Writable, Default(7)),
		"thing: x needs one of Required, Default, Allocated":   Attr("x", name, String(5), Writable),
		"thing: x is required, so it has no default":           Attr("x", name, String(5), Writable, Required, Default("")),
		"thing: x has a default but is not accepted on create": Attr("x", name, String(5), UpdateOnly, Default("")),
		"thing: x names no index of the table: nope":           Attr("x", name, String(5), Filter, Indexed("nope")),
		"thing: x has an index but is no filter":               Attr("x", name, String(5), Indexed("name")),
		"thing: x is a sort key but its kind has no order":     Attr("x", name, Codec[string]{Kind: "k", Append: AppendString[string]}, Sort),
		"thing: x is a filter but its kind cannot match":       Attr("x", name, Codec[string]{Kind: "k", Append: AppendString[string]}, Filter),
		"thing: x is writable but cannot be decoded":           Attr("x", name, Codec[string]{Kind: "k", Append: AppendString[string]}, Writable, Required),
		"thing: x is shown but cannot be encoded":              Attr("x", name, Codec[string]{Kind: "k"}),
		"thing: x an owner is a string":                        Attr("x", func(t *thing) *int { return &t.N }, Int[int](0, 1), Owner),
		"thing: x has no kind":                                 Attr("x", name, Codec[string]{Append: AppendString[string]}),
	} {
		if got := strings.Join(Define(thingTable(), "thing", "things", a).Lint(), "; "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := things().Lint(); got != nil {
		t.Errorf("a sound definition: %v", got)
	}
	twice := Define(thingTable(), "thing", "things", Attr("x", name, String(5)), Attr("x", name, String(5)))
	if got := twice.Lint(); len(got) != 1 || !strings.Contains(got[0], "twice") {
		t.Errorf("declared twice: %v", got)
	}
}
