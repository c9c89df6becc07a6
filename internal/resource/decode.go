package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// BadRequest is a request that its definition refuses: HTTP 400.  Type is the exception's name in the answer.
type BadRequest struct {
	Type    string
	Message string
}

func (e *BadRequest) Error() string { return e.Message }

// Refuse makes a BadRequest of type HTTPBadRequest, as Neutron answers whatever its attribute tables refuse.
func Refuse(format string, a ...any) *BadRequest {
	return &BadRequest{Type: "HTTPBadRequest", Message: fmt.Sprintf(format, a...)}
}

// invalid is the answer to a value of the wrong kind.
func invalid(attr string, reason error) *BadRequest {
	var refused *BadRequest
	if errors.As(reason, &refused) {
		return refused
	}
	return Refuse("Invalid input for %s. Reason: %s.", attr, strings.TrimSuffix(reason.Error(), "."))
}

// Creator is what decoding a create needs to know of the caller.
type Creator struct {
	ProjectID string // owns what is created, unless the body says otherwise
	AnyOwner  bool   // may create for other projects
}

// ParseObject reads a body that must be one JSON object.  Numbers stay json.Number.
func ParseObject(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, Refuse("Body contains invalid data")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, Refuse("Body contains invalid data")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, Refuse("Body contains invalid data")
	}
	return m, nil
}

// MaxBulk is how many objects one request may create: what fits into one transaction of the store with room to spare.
const MaxBulk = 4000

// ParseCreate reads the body of a POST: {"port": {...}} or, in bulk, {"ports": [{...}, ...]}.
func (d *Definition[T]) ParseCreate(body []byte, by Creator) (inputs []*Input[T], bulk bool, err error) {
	m, err := ParseObject(body)
	if err != nil {
		return nil, false, err
	}
	many, bulk := m[d.Plural]
	if !bulk {
		one, err := d.envelope(m)
		if err != nil {
			return nil, false, err
		}
		in, err := d.create(one, by)
		return []*Input[T]{in}, false, err
	}
	list, ok := many.([]any)
	if !ok || len(list) == 0 {
		return nil, true, Refuse("Resources required")
	}
	if len(m) != 1 {
		return nil, true, Refuse("Body contains invalid data")
	}
	if len(list) > MaxBulk {
		return nil, true, Refuse("Bulk creation of %d %s exceeds the limit of %d in one request", len(list), d.Plural, MaxBulk)
	}
	inputs = make([]*Input[T], 0, len(list))
	for _, v := range list {
		one, ok := v.(map[string]any)
		if !ok {
			return nil, true, Refuse("Invalid items in %s: '%s' is not a dictionary", d.Plural, Show(v))
		}
		// Items may carry their own envelope, as in {"ports": [{"port": {...}}]}.
		if inner, ok := one[d.Singular].(map[string]any); ok && len(one) == 1 {
			one = inner
		}
		in, err := d.create(one, by)
		if err != nil {
			return nil, true, err
		}
		inputs = append(inputs, in)
	}
	return inputs, true, nil
}

// ParseUpdate reads the body of a PUT: {"port": {...}}.
func (d *Definition[T]) ParseUpdate(body []byte) (*Input[T], error) {
	m, err := ParseObject(body)
	if err != nil {
		return nil, err
	}
	one, err := d.envelope(m)
	if err != nil {
		return nil, err
	}
	if err := d.unknown(one); err != nil {
		return nil, err
	}
	in := &Input[T]{given: make(map[string]struct{}, len(one))}
	for i := range d.attrs {
		a := &d.attrs[i]
		v, sent, err := a.sent(one)
		if err != nil {
			return nil, err
		}
		if !sent {
			continue
		}
		if !a.Traits.Put {
			return nil, Refuse("Cannot update read-only attribute %s", a.Name)
		}
		if err := a.take(in, v); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (d *Definition[T]) envelope(m map[string]any) (map[string]any, error) {
	v, ok := m[d.Singular]
	if !ok {
		return nil, Refuse("Unable to find '%s' in request body", d.Singular)
	}
	one, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return nil, Refuse("Body contains invalid data")
	}
	return one, nil
}

func (d *Definition[T]) create(m map[string]any, by Creator) (*Input[T], error) {
	if err := d.unknown(m); err != nil {
		return nil, err
	}
	in := &Input[T]{given: make(map[string]struct{}, len(m))}
	for i := range d.attrs {
		a := &d.attrs[i]
		v, sent, err := a.sent(m)
		switch {
		case err != nil:
			return nil, err
		case sent && !a.Traits.Post:
			return nil, Refuse("Attribute '%s' not allowed in POST", a.Name)
		case sent:
			if err := a.take(in, v); err != nil {
				return nil, err
			}
		case a.Traits.Required:
			return nil, Refuse("Failed to parse request. Required attribute '%s' not specified", a.Name)
		case a.preset != nil:
			a.preset(&in.Value)
		}
	}
	return in, d.own(in, by)
}

// own settles who owns what is created.
func (d *Definition[T]) own(in *Input[T], by Creator) error {
	if d.owner < 0 || !d.attrs[d.owner].Traits.Post {
		return nil
	}
	a := &d.attrs[d.owner]
	switch {
	case !in.Has(a.Name):
		if by.ProjectID == "" {
			return Refuse("Running without a project requires that %s is specified", a.Name)
		}
		a.setText(&in.Value, by.ProjectID)
	case a.text(&in.Value) != by.ProjectID && !by.AnyOwner:
		return Refuse("Specifying '%s' other than the authenticated project in request requires admin privileges", a.Name)
	}
	return nil
}

// unknown refuses attributes that the definition lacks.
func (d *Definition[T]) unknown(m map[string]any) error {
	var names []string
	for name := range m {
		if i, ok := d.byName[name]; !ok || d.attrs[i].append == nil && d.attrs[i].decode == nil {
			names = append(names, Show(name))
		}
	}
	if names == nil {
		return nil
	}
	slices.Sort(names)
	return Refuse("Unrecognized attribute(s) '%s'", Show(strings.Join(names, ", ")))
}

// sent finds the attribute in the body by its name or its alias.
func (a *Attribute[T]) sent(m map[string]any) (v any, sent bool, err error) {
	v, sent = m[a.Name]
	if a.Traits.Alias == "" {
		return v, sent, nil
	}
	other, also := m[a.Traits.Alias]
	switch {
	case !also:
		return v, sent, nil
	case !sent:
		return other, true, nil
	case Show(v) != Show(other):
		return nil, false, Refuse("'%s' and '%s' are synonyms and must have the same value", a.Name, a.Traits.Alias)
	}
	return v, true, nil
}

func (a *Attribute[T]) take(in *Input[T], v any) error {
	if err := a.decode(&in.Value, v); err != nil {
		return invalid(a.Name, err)
	}
	in.given[a.Name] = struct{}{}
	return nil
}
