// Package model holds the rows of Baryon's store: one file per resource with its struct, its table and, where the Networking
// API shows it, its definition.
//
// Rows read from the store are constants: copy before changing.  Addresses, prefixes and hardware addresses are typed from the
// edge inward; strings end at decode.
package model

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"
)

// ID identifies an object: a lower-case UUID with dashes.
type ID string

// MAC is a 48-bit Ethernet address.  Its text form is lower case with colons.
type MAC [6]byte

// ErrMAC is returned by ParseMAC for anything that is no 48-bit Ethernet address.
var ErrMAC = errors.New("not an Ethernet address")

// ParseMAC reads aa:bb:cc:dd:ee:ff, aa-bb-cc-dd-ee-ff or aabb.ccdd.eeff.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(m) {
		return m, fmt.Errorf("%w: %q", ErrMAC, s)
	}
	copy(m[:], hw)
	return m, nil
}

// String prints the address as fa:16:3e:00:00:01.
func (m MAC) String() string {
	var b [17]byte
	for i := range m {
		if i > 0 {
			b[3*i-1] = ':'
		}
		hex.Encode(b[3*i:], m[i:i+1])
	}
	return string(b[:])
}

// IsZero tells an unset address.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsUnicast tells whether the address can name one station: its group bit is clear and it is not all zero.
func (m MAC) IsUnicast() bool { return m[0]&1 == 0 && !m.IsZero() }

// MarshalText makes a MAC a JSON string; the zero address is the empty string.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	v, err := ParseMAC(string(b))
	if err == nil {
		*m = v
	}
	return err
}

// Standard is what every object of the Networking API carries.
type Standard struct {
	ID          ID        `json:"id"`
	ProjectID   string    `json:"project_id"`
	Description string    `json:"description,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Revision    int64     `json:"revision_number"` // 0 on create, +1 on each change
	Tags        []string  `json:"tags,omitempty"`
}
