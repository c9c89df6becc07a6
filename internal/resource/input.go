package resource

// Input is one decoded and validated request body.  Value holds what the client gave, with the definition's defaults filled in
// on create; Has tells which attributes the client itself sent (an explicit null counts as sent).
type Input[T any] struct {
	Value T
	given map[string]struct{}
}

// NewInput makes an Input of which the named attributes count as sent by the client.
func NewInput[T any](value T, given ...string) *Input[T] {
	in := &Input[T]{Value: value, given: make(map[string]struct{}, len(given))}
	for _, g := range given {
		in.given[g] = struct{}{}
	}
	return in
}

// Has tells whether the client sent the attribute.
func (in *Input[T]) Has(attr string) bool {
	_, ok := in.given[attr]
	return ok
}

// Given lists the attributes that the client sent, in no order.
func (in *Input[T]) Given() []string {
	names := make([]string, 0, len(in.given))
	for g := range in.given {
		names = append(names, g)
	}
	return names
}
