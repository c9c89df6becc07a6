package resource

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Codec is one kind of value: how it is read from JSON, shown, filtered by and ordered.
//
// Decode gets a decoded JSON value (nil, bool, json.Number, string, []any or map[string]any) and returns the reason in Neutron's
// wording when it is refused.  Match makes a predicate from the values of a query parameter, any of which may hold.
type Codec[V any] struct {
	Kind    string
	Decode  func(v any) (V, error)
	Append  func(dst []byte, v V) []byte
	Match   func(values []string) (func(V) bool, error)
	Compare func(a, b V) int
}

// Show prints a JSON value as Neutron's messages do ('None', 'True', text without quotes), cut to a length fit for a message.
func Show(v any) string {
	const most = 255
	var s string
	switch v := v.(type) {
	case nil:
		s = "None"
	case bool:
		s = "False"
		if v {
			s = "True"
		}
	case string:
		s = v
	case json.Number:
		s = v.String()
	default:
		s = showNested(v)
	}
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "..."
	}
	return s
}

func showNested(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%T", v)
	}
	return string(b)
}

// Text matches stored text with any of the values, exactly.
func Text[S ~string](values []string) (func(S) bool, error) {
	if len(values) > 8 {
		set := make(map[S]struct{}, len(values))
		for _, v := range values {
			set[S(v)] = struct{}{}
		}
		return func(s S) bool { _, ok := set[s]; return ok }, nil
	}
	return func(s S) bool { return slices.Contains(values, string(s)) }, nil
}

func asString(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("'%s' is not a valid string", Show(v))
	}
	return s, nil
}

// String is text of at most max characters.
func String(max int) Codec[string] {
	return Codec[string]{
		Kind: fmt.Sprintf("string, at most %d characters", max),
		Decode: func(v any) (string, error) {
			s, err := asString(v)
			if err == nil && utf8.RuneCountInString(s) > max {
				return "", fmt.Errorf("'%s' exceeds maximum length of %d", Show(s), max)
			}
			return s, err
		},
		Append:  AppendString[string],
		Match:   Text[string],
		Compare: cmp.Compare[string],
	}
}

// NullString is String where null and the empty text are the same and are shown as null.
func NullString(max int) Codec[string] {
	c := String(max)
	c.Kind += ", or null"
	inner := c.Decode
	c.Decode = func(v any) (string, error) {
		if v == nil {
			return "", nil
		}
		return inner(v)
	}
	c.Append = func(dst []byte, s string) []byte {
		if s == "" {
			return append(dst, "null"...)
		}
		return AppendString(dst, s)
	}
	return c
}

// Enum is one of the values.
func Enum(values ...string) Codec[string] {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + v + "'"
	}
	list := "[" + strings.Join(quoted, ", ") + "]"
	return Codec[string]{
		Kind: "one of " + strings.Join(values, ", "),
		Decode: func(v any) (string, error) {
			s, ok := v.(string)
			if !ok || !slices.Contains(values, s) {
				return "", fmt.Errorf("'%s' is not in %s", Show(v), list)
			}
			return s, nil
		},
		Append:  AppendString[string],
		Match:   Text[string],
		Compare: cmp.Compare[string],
	}
}

// NullEnum is Enum shown as null while empty.  A client cannot send null: absent is how nothing is chosen.
func NullEnum(values ...string) Codec[string] {
	c := Enum(values...)
	c.Kind += "; null while unset"
	c.Append = NullString(0).Append
	return c
}

// ParseBool reads a boolean as Neutron does: true, "True", "false", 1, "0", ...
func ParseBool(v any) (bool, error) {
	switch b := v.(type) {
	case bool:
		return b, nil
	case json.Number:
		switch b.String() {
		case "1":
			return true, nil
		case "0":
			return false, nil
		}
	case string:
		switch strings.ToLower(b) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
	}
	return false, fmt.Errorf("'%s' cannot be converted to boolean", Show(v))
}

// Bool is a boolean.
func Bool() Codec[bool] {
	return Codec[bool]{
		Kind:   "boolean",
		Decode: ParseBool,
		Append: strconv.AppendBool,
		Match: func(values []string) (func(bool) bool, error) {
			var want [2]bool
			for _, s := range values {
				b, err := ParseBool(s)
				if err != nil {
					return nil, err
				}
				want[index(b)] = true
			}
			return func(b bool) bool { return want[index(b)] }, nil
		},
		Compare: func(a, b bool) int { return index(a) - index(b) },
	}
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ParseInt reads an integer or a numeric string.
func ParseInt(v any) (int64, error) {
	var s string
	switch n := v.(type) {
	case json.Number:
		s = n.String()
	case string:
		s = strings.TrimSpace(n)
	default:
		return 0, fmt.Errorf("'%s' is not an integer", Show(v))
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		if strings.HasPrefix(s, "-") {
			return math.MinInt64, nil
		}
		return math.MaxInt64, nil
	}
	if err != nil {
		return 0, fmt.Errorf("'%s' is not an integer", Show(v))
	}
	return i, nil
}

// Int is an integer of type N in [low, high].
func Int[N ~int | ~int64 | ~uint32](low, high int64) Codec[N] {
	return Codec[N]{
		Kind: fmt.Sprintf("integer, %d to %d", low, high),
		Decode: func(v any) (N, error) {
			i, err := ParseInt(v)
			switch {
			case err != nil:
				return 0, err
			case i < 0 && low == 0:
				return 0, fmt.Errorf("'%s' should be non-negative", Show(v))
			case i < low:
				return 0, fmt.Errorf("'%s' is too small - must be at least '%d'", Show(v), low)
			case i > high:
				return 0, fmt.Errorf("'%s' is too large - must be no larger than '%d'", Show(v), high)
			}
			return N(i), nil
		},
		Append: func(dst []byte, n N) []byte { return strconv.AppendInt(dst, int64(n), 10) },
		Match: func(values []string) (func(N) bool, error) {
			want := make([]int64, 0, len(values))
			for _, s := range values {
				i, err := ParseInt(s)
				if err != nil {
					return nil, err
				}
				want = append(want, i)
			}
			return func(n N) bool { return slices.Contains(want, int64(n)) }, nil
		},
		Compare: cmp.Compare[N],
	}
}

// NullInt is Int where 0 means unset and is shown as null.
func NullInt[N ~int | ~int64 | ~uint32](low, high int64) Codec[N] {
	c := Int[N](low, high)
	c.Kind += ", or null"
	inner, shown := c.Decode, c.Append
	c.Decode = func(v any) (N, error) {
		if v == nil {
			return 0, nil
		}
		return inner(v)
	}
	c.Append = func(dst []byte, n N) []byte {
		if n == 0 {
			return append(dst, "null"...)
		}
		return shown(dst, n)
	}
	return c
}

// OneOf is an integer of the listed ones.
func OneOf(values ...int) Codec[int] {
	c := Int[int](math.MinInt32, math.MaxInt32)
	list := strings.ReplaceAll(fmt.Sprint(values), " ", ", ")
	c.Kind = "one of " + strings.Trim(list, "[]")
	c.Decode = func(v any) (int, error) {
		i, err := ParseInt(v)
		if err != nil || !slices.Contains(values, int(i)) {
			return 0, fmt.Errorf("'%s' is not in %s", Show(v), list)
		}
		return int(i), nil
	}
	return c
}

// ParseUUID reads a UUID with or without dashes and returns it in lower case with dashes.
func ParseUUID(s string) (string, error) {
	bad := func() (string, error) { return "", fmt.Errorf("'%s' is not a valid UUID", Show(s)) }
	var b [36]byte
	n := 0 // digits so far
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '-':
			if len(s) != 36 || i != 8 && i != 13 && i != 18 && i != 23 {
				return bad()
			}
			continue
		case c >= 'A' && c <= 'F':
			c += 'a' - 'A'
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		default:
			return bad()
		}
		if n == 32 {
			return bad()
		}
		b[n+dashesBefore(n)] = c
		n++
	}
	if n != 32 || len(s) != 32 && len(s) != 36 {
		return bad()
	}
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:]), nil
}

// dashesBefore counts the dashes before the n-th hexadecimal digit of a UUID.
func dashesBefore(n int) int {
	switch {
	case n < 8:
		return 0
	case n < 12:
		return 1
	case n < 16:
		return 2
	case n < 20:
		return 3
	}
	return 4
}

// UUID is an identifier.
func UUID[S ~string]() Codec[S] {
	return Codec[S]{
		Kind: "UUID",
		Decode: func(v any) (S, error) {
			s, ok := v.(string)
			if !ok {
				return "", fmt.Errorf("'%s' is not a valid UUID", Show(v))
			}
			id, err := ParseUUID(s)
			return S(id), err
		},
		Append:  AppendString[S],
		Match:   Text[S],
		Compare: cmp.Compare[S],
	}
}

// Layouts of times in the API.
const (
	LayoutStandard = "2006-01-02T15:04:05Z" // created_at, updated_at
	LayoutAgent    = "2006-01-02 15:04:05"  // agents
)

// Time is a moment in UTC to the second, read-only.
func Time(layout string) Codec[time.Time] {
	return Codec[time.Time]{
		Kind:   "time, " + layout,
		Append: func(dst []byte, t time.Time) []byte { return appendTime(dst, t, layout) },
		Match: func(values []string) (func(time.Time) bool, error) {
			return func(t time.Time) bool { return slices.Contains(values, t.UTC().Format(layout)) }, nil
		},
		Compare: time.Time.Compare,
	}
}

func appendTime(dst []byte, t time.Time, layout string) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, layout)
	return append(dst, '"')
}

// List shows a list whose elements are shown by the function; it is read-only.
func List[V any](kind string, element func(dst []byte, v V) []byte) Codec[[]V] {
	return Codec[[]V]{
		Kind:   kind,
		Append: func(dst []byte, vs []V) []byte { return AppendList(dst, vs, element) },
	}
}

// Object is any JSON object of at most max bytes as JSON text; null is the empty one.
func Object(max int) Codec[map[string]any] {
	return Codec[map[string]any]{
		Kind: fmt.Sprintf("object of at most %d bytes, or null", max),
		Decode: func(v any) (map[string]any, error) {
			if v == nil {
				return map[string]any{}, nil
			}
			m, ok := v.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("'%s' is not a dictionary", Show(v))
			}
			if n := len(AppendObject(nil, m)); n > max {
				return nil, fmt.Errorf("%d bytes exceed the maximum length of %d", n, max)
			}
			return m, nil
		},
		Append: AppendObject,
	}
}

// AnyObject is a JSON object that is only shown.
func AnyObject() Codec[map[string]any] {
	return Codec[map[string]any]{Kind: "object", Append: AppendObject}
}
