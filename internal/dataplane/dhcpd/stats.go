package dhcpd

import (
	"fmt"
	"sort"
	"strings"
	"sync/atomic"
)

// Verdict is what became of a received message, or another thing worth counting.
type Verdict uint8

// The verdicts.
const (
	Answered4     Verdict = iota // DHCPv4 reply sent
	Refused4                     // DHCPNAK sent
	Answered6                    // DHCPv6 reply sent
	Advertised                   // router advertisement sent
	Silent                       // a message that needs no answer (release, decline)
	Malformed                    // not a valid message
	UnknownPort                  // no such MAC in the table
	NoAddress                    // a known port without an address to give
	Spoofed                      // the message names another MAC than its frame
	OtherServer                  // the client chose another server
	RelayRefused                 // relayed from nowhere
	Unsupported                  // BOOTP, relays of DHCPv6, unknown types
	SendFailed                   // the reply could not be sent
	AnsweredDNS                  // DNS question answered from the table
	ForwardedDNS                 // … from an upstream server
	RefusedDNS                   // … refused
	LimitedDNS                   // … dropped, too many
	UpstreamFails                // no upstream server answered
	verdicts
)

var verdictNames = [verdicts]string{
	"dhcp4_answered", "dhcp4_refused", "dhcp6_answered", "ra_sent", "silent", "malformed", "unknown_port", "no_address", "spoofed",
	"other_server", "relay_refused", "unsupported", "send_failed", "dns_answered", "dns_forwarded", "dns_refused", "dns_limited",
	"dns_upstream_failed",
}

func (v Verdict) String() string {
	if v < verdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Stats counts verdicts; safe for concurrent use.  Several servers may share one.
type Stats struct{ n [verdicts]atomic.Uint64 }

func (s *Stats) add(v Verdict) { s.n[v].Add(1) }

// Get is one counter.
func (s *Stats) Get(v Verdict) uint64 { return s.n[v].Load() }

// Each calls f with every counter.
func (s *Stats) Each(f func(name string, n uint64)) {
	for v := range verdicts {
		f(v.String(), s.n[v].Load())
	}
}

// String lists the counters that are not zero.
func (s *Stats) String() string {
	var out []string
	s.Each(func(name string, n uint64) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%s=%d", name, n))
		}
	})
	sort.Strings(out)
	return strings.Join(out, " ")
}
