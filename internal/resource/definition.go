package resource

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Definition is one resource of the API: its table, its names and its attributes in the order they are shown.
type Definition[T any] struct {
	Table    *Table[T]
	Singular string // envelope of one: "port"
	Plural   string // envelope of many: "ports"

	attrs  []Attribute[T]
	byName map[string]int // attribute names and aliases -> attrs
	owner  int            // the attribute marked Owner, -1 if none

	whole [2]atomic.Pointer[Encoder[T]] // of all attributes, made when first asked for: for others, for operators
}

// Attribute is one attribute of rows of type T.  Make it with Attr, Derived, FilterBy or Group.
type Attribute[T any] struct {
	Name   string
	Kind   string // what values it takes, for people
	Traits Traits

	group   []Attribute[T]
	fault   string // what is wrong with the declaration, for Lint
	decode  func(dst *T, v any) error
	preset  func(dst *T) // stores the default
	copy    func(dst, src *T)
	text    func(row *T) string // of the owner attribute
	setText func(row *T, s string)
	append  func(dst []byte, row *T) []byte
	match   func(values []string) (func(row *T) bool, error)
	compare func(a, b *T) int
}

// Traits are what options say about an attribute.
type Traits struct {
	Post, Put  bool // may be sent on create, on update
	Required   bool // must be sent on create
	Allocated  bool // the rules choose a value when it is absent
	HasDefault bool
	Default    any
	Hidden     bool // never shown
	Operators  bool // shown only to administrators and other services
	Filter     bool
	Sort       bool
	Presented  bool   // filled only when the row is presented: filters and sorting need the presented row
	Owner      bool   // the project that owns the row
	Extension  string // alias of the extension it belongs to; empty: core
	Policy     string // who may set it, for the reference; the rules enforce it
	Ref        string // singular of the resource it names
	Alias      string // second name, accepted and shown as well
	Index      string // index of the table that finds rows by it

	probe func(values []string) []string // filter values -> index values; nil result: the index cannot serve
}

// Option sets traits of an attribute.
type Option func(*Traits)

// ReadOnly attributes are shown and never sent; it is what an attribute is without an access option.
func ReadOnly(t *Traits) { t.Post, t.Put = false, false }

// CreateOnly attributes are sent on create and fixed from then on.
func CreateOnly(t *Traits) { t.Post, t.Put = true, false }

// UpdateOnly attributes are sent on update only.
func UpdateOnly(t *Traits) { t.Post, t.Put = false, true }

// Writable attributes are sent on create and update.
func Writable(t *Traits) { t.Post, t.Put = true, true }

// Required attributes must be sent on create.
func Required(t *Traits) { t.Required = true }

// Allocated attributes get a value from the rules when the client sends none.
func Allocated(t *Traits) { t.Allocated = true }

// Hidden attributes are accepted but never shown.
func Hidden(t *Traits) { t.Hidden = true }

// Operators attributes are shown only to administrators and other services.
func Operators(t *Traits) { t.Operators = true }

// Filter lets lists be filtered by the attribute.
func Filter(t *Traits) { t.Filter = true }

// Sort lets lists be sorted by the attribute.
func Sort(t *Traits) { t.Sort = true }

// Presented marks a value that is computed when the row is shown.  One that may be sent all the same is a wish: what is shown is what became
// of it.
func Presented(t *Traits) { t.Presented = true }

// Owner marks the attribute that holds the owning project.
func Owner(t *Traits) { t.Owner = true }

// Default is the value on create when the client sends none.  Its type must be the attribute's (checked by Lint).
func Default(v any) Option { return func(t *Traits) { t.HasDefault, t.Default = true, v } }

// Ext names the extension the attribute belongs to.
func Ext(alias string) Option { return func(t *Traits) { t.Extension = alias } }

// Policy tells, for the reference, who may set the attribute.
func Policy(rule string) Option { return func(t *Traits) { t.Policy = rule } }

// RefTo names the resource whose id the attribute holds.
func RefTo(singular string) Option { return func(t *Traits) { t.Ref = singular } }

// Alias gives the attribute a second name.
func Alias(name string) Option { return func(t *Traits) { t.Alias = name } }

// Indexed says that the table's index finds rows by the attribute's text.  An empty filter value is not looked up in it.
func Indexed(index string) Option {
	return IndexedBy(index, func(values []string) []string {
		if slices.Contains(values, "") {
			return nil
		}
		return values
	})
}

// IndexedBy is Indexed with a function from filter values to index values; it returns nil when the index cannot serve them.
func IndexedBy(index string, probe func(values []string) []string) Option {
	return func(t *Traits) { t.Index, t.probe = index, probe }
}

// Attr declares an attribute stored in a field of the row.
func Attr[T, V any](name string, field func(*T) *V, codec Codec[V], opts ...Option) Attribute[T] {
	a := Derived(name, func(row *T) V { return *field(row) }, codec, opts...)
	a.copy = func(dst, src *T) { *field(dst) = *field(src) }
	if codec.Decode != nil {
		a.decode = func(dst *T, v any) error {
			value, err := codec.Decode(v)
			if err == nil {
				*field(dst) = value
			}
			return err
		}
	}
	if a.Traits.HasDefault {
		def, ok := a.Traits.Default.(V)
		if !ok {
			a.fault = fmt.Sprintf("default %v is a %T", a.Traits.Default, a.Traits.Default)
		}
		a.preset = func(dst *T) { *field(dst) = def }
	}
	if a.Traits.Owner {
		text, ok := any(field).(func(*T) *string)
		if !ok {
			a.fault = "an owner is a string"
			return a
		}
		a.text = func(row *T) string { return *text(row) }
		a.setText = func(row *T, s string) { *text(row) = s }
	}
	return a
}

// Derived declares a read-only attribute computed from the row.
func Derived[T, V any](name string, get func(*T) V, codec Codec[V], opts ...Option) Attribute[T] {
	a := Attribute[T]{Name: name, Kind: codec.Kind}
	for _, o := range opts {
		o(&a.Traits)
	}
	if codec.Append != nil {
		a.append = func(dst []byte, row *T) []byte { return codec.Append(dst, get(row)) }
	}
	if codec.Match != nil {
		a.match = func(values []string) (func(*T) bool, error) {
			m, err := codec.Match(values)
			if err != nil {
				return nil, err
			}
			return func(row *T) bool { return m(get(row)) }, nil
		}
	}
	if codec.Compare != nil {
		a.compare = func(x, y *T) int { return codec.Compare(get(x), get(y)) }
	}
	return a
}

// FilterBy declares a query parameter that is no attribute ("tags-any", "changed_since").
func FilterBy[T any](name, kind string, match func(values []string) (func(row *T) bool, error), opts ...Option) Attribute[T] {
	a := Attribute[T]{Name: name, Kind: kind, match: match}
	for _, o := range opts {
		o(&a.Traits)
	}
	a.Traits.Hidden, a.Traits.Filter = true, true
	return a
}

// Group makes one argument of Define out of attributes that several resources share.
func Group[T any](attrs ...Attribute[T]) Attribute[T] { return Attribute[T]{group: attrs} }

// Define declares a resource.  Mistakes in the declaration are reported by Lint, which a test calls on every definition.
func Define[T any](table *Table[T], singular, plural string, attrs ...Attribute[T]) *Definition[T] {
	d := &Definition[T]{Table: table, Singular: singular, Plural: plural, byName: map[string]int{}, owner: -1}
	d.add(attrs)
	for i, a := range d.attrs {
		d.byName[a.Name] = i
		if a.Traits.Alias != "" {
			d.byName[a.Traits.Alias] = i
		}
		if a.Traits.Owner && a.text != nil {
			d.owner = i
		}
	}
	return d
}

func (d *Definition[T]) add(attrs []Attribute[T]) {
	for _, a := range attrs {
		if a.group != nil {
			d.add(a.group)
			continue
		}
		d.attrs = append(d.attrs, a)
	}
}

// Key is the row's id.
func (d *Definition[T]) Key(row *T) string { return d.Table.Key(row) }

// Project is the project that owns the row; empty when the resource has no owner.
func (d *Definition[T]) Project(row *T) string {
	if d.owner < 0 {
		return ""
	}
	return d.attrs[d.owner].text(row)
}

// Apply copies into dst the attributes that the client sent.  dst is a copy of the stored row made by the caller; slices and
// maps are taken over from the input, not shared with the old row.
func (d *Definition[T]) Apply(dst *T, in *Input[T]) {
	for name := range in.given {
		if i, ok := d.byName[name]; ok && d.attrs[i].copy != nil {
			d.attrs[i].copy(dst, &in.Value)
		}
	}
}

// Attributes lists the attributes in the order they are shown.
func (d *Definition[T]) Attributes() []Attribute[T] { return slices.Clone(d.attrs) }

// Described is a definition of whatever row type, as the reference generator and the lint test see it.
type Described interface {
	Describe() Description
	Lint() []string
}

// Description is a definition in words.
type Description struct {
	Singular, Plural string
	Attributes       []AttributeDescription
}

// AttributeDescription is an attribute in words.
type AttributeDescription struct {
	Name, Kind string
	Traits     Traits
}

// Describe puts the definition into words.
func (d *Definition[T]) Describe() Description {
	out := Description{Singular: d.Singular, Plural: d.Plural}
	for _, a := range d.attrs {
		out.Attributes = append(out.Attributes, AttributeDescription{Name: a.Name, Kind: a.Kind, Traits: a.Traits})
	}
	return out
}

// Lint lists what is wrong with the declaration.
func (d *Definition[T]) Lint() []string {
	var faults []string
	fault := func(format string, a ...any) {
		faults = append(faults, d.Singular+": "+fmt.Sprintf(format, a...))
	}
	if d.Table == nil || d.Table.Key == nil {
		fault("has no table with a key")
		return faults
	}
	indexes := map[string]bool{"": true, KeyIndex: true}
	for _, x := range slices.Concat(d.Table.Indexes, d.Table.Uniques) {
		indexes[x.Name] = true
	}
	seen := map[string]bool{}
	for _, a := range d.attrs {
		for _, name := range []string{a.Name, a.Traits.Alias} {
			if name != "" && seen[name] {
				fault("%s is declared twice", name)
			}
			seen[name] = true
		}
		for _, f := range a.lint() {
			fault("%s %s", a.Name, f)
		}
		if !indexes[a.Traits.Index] {
			fault("%s names no index of the table: %s", a.Name, a.Traits.Index)
		}
	}
	slices.SortFunc(faults, cmp.Compare[string])
	return faults
}

func (a *Attribute[T]) lint() []string {
	t := a.Traits
	checks := []struct {
		bad  bool
		what string
	}{
		{a.fault != "", a.fault},
		{a.Name == "" || strings.TrimSpace(a.Name) != a.Name, "has no proper name"},
		{a.Kind == "", "has no kind"},
		{!t.Hidden && a.append == nil, "is shown but cannot be encoded"},
		{(t.Post || t.Put) && a.decode == nil, "is writable but cannot be decoded"},
		{t.Filter && a.match == nil, "is a filter but its kind cannot match"},
		{t.Sort && a.compare == nil, "is a sort key but its kind has no order"},
		{t.Post && !t.Required && !t.HasDefault && !t.Allocated, "needs one of Required, Default, Allocated"},
		{t.Required && (t.HasDefault || t.Allocated), "is required, so it has no default"},
		{t.HasDefault && !t.Post, "has a default but is not accepted on create"},
		{t.Index != "" && !t.Filter, "has an index but is no filter"},
	}
	var faults []string
	for _, c := range checks {
		if c.bad {
			faults = append(faults, c.what)
		}
	}
	return faults
}
