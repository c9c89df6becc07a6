package resource

import "slices"

// Encoder writes rows as JSON objects: the selected attributes of a definition that the reader may see.  Safe for concurrent use.
type Encoder[T any] struct {
	// NeedsPresented says that rows must be presented before they are appended.
	NeedsPresented bool

	parts []part[T]
}

type part[T any] struct {
	key    []byte // `,"name":`
	append func(dst []byte, row *T) []byte
}

// Encoder makes the encoder for the fields (none: all; unknown ones are ignored).  operator: the reader is an administrator or
// another service and also sees what is shown to Operators only.
func (d *Definition[T]) Encoder(fields []string, operator bool) *Encoder[T] {
	if len(fields) > 0 {
		return d.encoder(fields, operator)
	}
	whole := &d.whole[0]
	if operator {
		whole = &d.whole[1]
	}
	e := whole.Load()
	if e == nil {
		e = d.encoder(nil, operator)
		whole.Store(e)
	}
	return e
}

func (d *Definition[T]) encoder(fields []string, operator bool) *Encoder[T] {
	e := &Encoder[T]{parts: make([]part[T], 0, len(d.attrs)+1)}
	for i := range d.attrs {
		a := &d.attrs[i]
		if a.append == nil || a.Traits.Hidden || a.Traits.Operators && !operator {
			continue
		}
		wanted := len(fields) == 0 || slices.Contains(fields, a.Name) ||
			a.Traits.Alias != "" && slices.Contains(fields, a.Traits.Alias)
		if !wanted {
			continue
		}
		e.NeedsPresented = e.NeedsPresented || a.Traits.Presented
		e.add(a.Name, a.append)
		if a.Traits.Alias != "" {
			e.add(a.Traits.Alias, a.append)
		}
	}
	return e
}

func (e *Encoder[T]) add(name string, f func([]byte, *T) []byte) {
	key := append(AppendString([]byte{','}, name), ':')
	if len(e.parts) == 0 {
		key = key[1:]
	}
	e.parts = append(e.parts, part[T]{key: key, append: f})
}

// Append appends the row as a JSON object.
func (e *Encoder[T]) Append(dst []byte, row *T) []byte {
	dst = append(dst, '{')
	for i := range e.parts {
		dst = append(dst, e.parts[i].key...)
		dst = e.parts[i].append(dst, row)
	}
	return append(dst, '}')
}

// AppendAll appends the rows as a JSON array.
func (e *Encoder[T]) AppendAll(dst []byte, rows []*T) []byte { return AppendList(dst, rows, e.Append) }
