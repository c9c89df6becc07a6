// Package pipeline declares the OpenFlow pipelines of a node: tables in packet order, the rules that may stand in each, and what a
// flow's cookie says.
//
// It holds declarations and pure functions only.  Managers make flows with Rule.Flow, which fills in table, priority and cookie; a
// rule that is not declared here cannot be installed.  docs/pipeline.md is generated from it (Doc), and a test fails when that is
// stale.  Numbers are Neutron's where Neutron has them.
//
// # Cookie
//
// Every flow of ours carries a cookie made of
//
//	bits 63–48  Mark: the flow is Baryon's
//	bits 47–40  Rule.Code: why it exists
//	bits 39–0   a hash of its owner: for which object it exists
//
// so it is the same after every restart, flows of others are told apart by it, and a line of `ovs-ofctl dump-flows` leads back to
// reason and object.
package pipeline

import (
	"hash/fnv"
	"strings"

	"baryon/internal/names"
	"baryon/internal/openflow"
)

// Table is one OpenFlow table of a bridge.
type Table struct {
	Bridge   string
	ID       uint8
	Name     string
	Question string // what the table decides about a packet
}

// Rule is one kind of flow.
type Rule struct {
	Code     uint8 // in the cookie; never reused for another meaning
	Table    *Table
	Priority uint16
	Match    string // for people: the shape of the match
	Actions  string // for people: the shape of the actions; "drop: word" counts what is dropped under a word
	Why      string // the reason, one sentence
}

// The tables of br-int in packet order.
var (
	Classify = &Table{names.BrInt, 0, "local_switching", "Where does this packet come from, and may anything come from there?"}
	Canary   = &Table{names.BrInt, 23, "canary", "Does Open vSwitch still hold our flows?"}
	ARPSpoof = &Table{names.BrInt, 24, "arp_spoof", "May this port claim this IP address (ARP, neighbour advertisement)?"}
	MACSpoof = &Table{names.BrInt, 25, "mac_spoof", "May this port use this source MAC?"}
	Switch   = &Table{names.BrInt, 60, "transient", "Where in its network does the packet go?"}
)

// The tables of br-tun in packet order.
var (
	TunClassify = &Table{names.BrTun, 0, "classify", "Does the packet come from a local port or from a tunnel, and of which type?"}
	ToTunnel    = &Table{names.BrTun, 2, "patch_lv_to_tun", "Is the local packet ARP, unicast, or for many?"}
	FromGRE     = &Table{names.BrTun, 3, "gre_tun_to_lv", "Which local network has this GRE key?"}
	FromVXLAN   = &Table{names.BrTun, 4, "vxlan_tun_to_lv", "Which local network has this VNI?"}
	FromGeneve  = &Table{names.BrTun, 6, "geneve_tun_to_lv", "Which local network has this Geneve VNI?"}
	Learn       = &Table{names.BrTun, 10, "learn_from_tun", "Which tunnel leads back to the sender?"}
	Unicast     = &Table{names.BrTun, 20, "ucast_to_tun", "Behind which tunnel is this MAC?"}
	ARPReply    = &Table{names.BrTun, 21, "arp_responder", "Can the question be answered here?"}
	Flood       = &Table{names.BrTun, 22, "flood_to_tun", "Which nodes have ports in this network?"}
)

// Tables lists all tables, bridge by bridge, in packet order.
func Tables() []*Table {
	return append([]*Table{
		Classify, Canary, ARPSpoof, MACSpoof, Switch,
		BaseEgress, RulesEgress, AcceptEgress, AcceptOrIngress, BaseIngress, RulesIngress, AcceptIngress, Dropped, Deliver,
		TunClassify, ToTunnel, FromGRE, FromVXLAN, FromGeneve, Learn, ARPReply, Unicast, Flood,
	}, providerTables()...)
}

// Mark tells our cookies from others.
const Mark uint64 = 0xba51

const (
	markShift = 48
	codeShift = 40
	ownerMask = 1<<codeShift - 1
)

// Cookie is the cookie of a flow made by the rule for an owner (a record's key: "port/<id>").
func (r *Rule) Cookie(owner string) uint64 {
	return Mark<<markShift | uint64(r.Code)<<codeShift | OwnerHash(owner)
}

// Flow makes a flow by the rule for an owner.
func (r *Rule) Flow(owner string, m openflow.Match, actions ...openflow.Action) openflow.Flow {
	return openflow.Flow{Table: r.Table.ID, Priority: r.Priority, Cookie: r.Cookie(owner), Match: m, Actions: actions}
}

// Drop is the word under which what the rule drops is counted; empty: it drops nothing.
func (r *Rule) Drop() string {
	word, ok := strings.CutPrefix(r.Actions, "drop: ")
	if !ok {
		return ""
	}
	return word
}

// OwnerHash is the part of a cookie that stands for the owner: 40 bits of FNV-1a.
func OwnerHash(owner string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(owner))
	s := h.Sum64()
	return (s ^ s>>codeShift) & ownerMask
}

// Ours reports that a flow with this cookie is Baryon's.
func Ours(cookie uint64) bool { return cookie>>markShift == Mark }

// MarkCookie and its mask select all flows of ours in a dump.
func MarkCookie() (cookie, mask uint64) { return Mark << markShift, 0xffff << markShift }

// OwnerOf is the owner's hash in a cookie.
func OwnerOf(cookie uint64) uint64 { return cookie & ownerMask }

// RuleOf is the rule that made a flow with this cookie.
func RuleOf(cookie uint64) (*Rule, bool) {
	if !Ours(cookie) {
		return nil, false
	}
	code := uint8(cookie >> codeShift)
	for _, r := range Rules() {
		if r.Code == code {
			return r, true
		}
	}
	return nil, false
}

// Learned reports that a flow was made by Open vSwitch itself from our learn action: it comes and goes with traffic and is part of
// no wanted state.
func Learned(cookie uint64) bool {
	return Ours(cookie) && uint8(cookie>>codeShift) == LearnedUnicast.Code
}
