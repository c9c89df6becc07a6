package netfilter

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// Family is an address family.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families lists both.
func Families() []Family { return []Family{IPv4, IPv6} }

func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

func (f Family) program(verb string) string {
	if f == IPv6 {
		return "ip6tables-" + verb
	}
	return "iptables-" + verb
}

// Chain names a chain.
type Chain struct {
	Family Family
	Table  string // raw, filter
	Name   string
}

func (c Chain) String() string { return fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name) }

// Rule is one rule of a chain.
type Rule struct {
	// Text is what follows "-A CHAIN ", in the words and order of iptables-save (1.8), so that what is read back compares equal.
	Text string
	// Owner is who is told when iptables refuses the rule.  Such a rule is left out and the rest written, so only a rule without which less
	// passes may have an owner; without one, the whole change fails.
	Owner string
}

// Rules are the rules of a chain, in order.  In a built-in chain they are those of ours alone, and they come first.
type Rules []Rule

// Equal compares what the rules say.
func (r Rules) Equal(o Rules) bool {
	if len(r) != len(o) {
		return false
	}
	for i := range r {
		if r[i].Text != o[i].Text {
			return false
		}
	}
	return true
}

// Print writes chains as iptables-save does, for people and tests: tables raw then filter, chains and rules in the order of their names.
func Print(w *strings.Builder, family Family, chains map[Chain]Rules) {
	for _, table := range tableOrder {
		var keys []Chain
		for c := range chains {
			if c.Family == family && c.Table == table {
				keys = append(keys, c)
			}
		}
		if len(keys) == 0 {
			continue
		}
		sortChains(keys)
		fmt.Fprintf(w, "*%s\n", table)
		for _, c := range keys {
			if !builtIn(c.Name) {
				fmt.Fprintf(w, ":%s - [0:0]\n", c.Name)
			}
		}
		for _, c := range keys {
			for _, r := range chains[c] {
				fmt.Fprintf(w, "-A %s %s\n", c.Name, r.Text)
			}
		}
		w.WriteString("COMMIT\n")
	}
}

// tableOrder is the order in which tables are written: a packet must have its zone before it is judged.
var tableOrder = []string{"raw", "filter"}

func builtIn(name string) bool {
	switch name {
	case "INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING":
		return true
	}
	return false
}

// Parse reads what iptables-save printed: the chains that own accepts, and of built-in chains the rules that jump to those.
// Tables that Baryon does not use and everything of others is left out.
func Parse(family Family, text []byte, own func(chain string) bool) (map[Chain]Rules, error) {
	out := map[Chain]Rules{}
	table := ""
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		switch {
		case line == "" || line[0] == '#' || line == "COMMIT":
		case line[0] == '*':
			table = line[1:]
		case table == "":
			return nil, fmt.Errorf("parse rules: line %d: no table", n)
		case line[0] == ':':
			name, _, _ := strings.Cut(line[1:], " ")
			if own(name) {
				out[Chain{family, table, name}] = Rules{}
			}
		case strings.HasPrefix(line, "-A "):
			name, rest, _ := strings.Cut(line[3:], " ")
			if c := (Chain{family, table, name}); own(name) || builtIn(name) && own(target(rest)) {
				out[c] = append(out[c], Rule{Text: canonical(rest)})
			}
		default:
			return nil, fmt.Errorf("parse rules: line %d: %.80q", n, line)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("parse rules: %w", err)
	}
	return out, nil
}

// target is the chain that a rule jumps to, "" if it is not a plain jump.
func target(rule string) string {
	if name, ok := strings.CutPrefix(rule, "-j "); ok && !strings.Contains(name, " ") {
		return name
	}
	return ""
}

// canonical gives a printed rule the words that Rule.Text uses where hosts differ: legacy iptables prints MACs in capitals, and a
// protocol without a name in /etc/protocols is printed by its number.
func canonical(rule string) string {
	rule = named(rule)
	const mac = "--mac-source "
	i := strings.Index(rule, mac)
	if i < 0 {
		return rule
	}
	i += len(mac)
	end := strings.IndexByte(rule[i:], ' ')
	if end < 0 {
		end = len(rule) - i
	}
	return rule[:i] + strings.ToLower(rule[i:i+end]) + rule[i+end:]
}
