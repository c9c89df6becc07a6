package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"baryon/internal/delta"
)

// lockWait is for how many seconds legacy iptables may wait for its lock.
const lockWait = "5"

// maxRefused bounds how many rules one Apply leaves out before it gives up.
const maxRefused = 64

// Tables keeps the chains of both families.
type Tables struct {
	own     func(chain string) bool
	read    func(ctx context.Context, program string) (string, error)
	feed    func(ctx context.Context, program string, args []string, stdin string) error
	chains  *delta.Map[Chain, Rules]
	refused map[Chain]map[string]Refusal // by text
	partial map[Chain]bool               // chains of which rules were refused: they are not there as chains says
	loaded  bool
	whole   bool // the last change failed: chains are written anew, not edited
}

// Refusal is a rule that iptables does not take.
type Refusal struct {
	Chain            Chain
	Owner, Rule, Why string
}

// NewTables makes a driver of the chains whose names own accepts.  Chains that are there already and not wanted stay until Release.
func NewTables(own func(chain string) bool) *Tables {
	return &Tables{own: own, read: read, feed: feed, chains: delta.NewMap[Chain](Rules.Equal, true),
		refused: map[Chain]map[string]Refusal{}, partial: map[Chain]bool{}}
}

// Set wants rules in a chain.
func (t *Tables) Set(c Chain, r Rules) {
	delete(t.refused, c)
	t.chains.Set(c, r)
}

// Unset wants a chain no more.  It must not be jumped to by a wanted one.
func (t *Tables) Unset(c Chain) {
	delete(t.refused, c)
	t.chains.Unset(c)
}

// Release says that what is wanted is complete: chains of ours that nobody wants may go.
func (t *Tables) Release() { t.chains.Release() }

// Actual is what a chain was seen with last.
func (t *Tables) Actual(c Chain) (Rules, bool) { return t.chains.Actual(c) }

// Wanted is what is wanted of a chain.
func (t *Tables) Wanted(c Chain) (Rules, bool) { return t.chains.Wanted(c) }

// Loaded tells whether the actual state has been read.
func (t *Tables) Loaded() bool { return t.loaded }

// Pending is the number of chains that differ from what is wanted.
func (t *Tables) Pending() int { return t.chains.PendingLen() }

// Refusals lists the rules that are left out because iptables refuses them.
func (t *Tables) Refusals() []Refusal {
	var out []Refusal
	for _, m := range t.refused {
		for _, r := range m {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Chain.String(), b.Chain.String()), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}

// Load reads what is there, so that the next Apply writes what differs from it.  Rules that were refused are tried again.
func (t *Tables) Load(ctx context.Context) error {
	have := map[Chain]Rules{}
	var results [2]map[Chain]Rules
	err := eachFamily(func(i int, f Family) error {
		text, err := t.read(ctx, f.program("save"))
		if err != nil {
			return fmt.Errorf("read %s rules: %w", f, err)
		}
		results[i], err = Parse(f, []byte(text), t.own)
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range results {
		for c, r := range m {
			have[c] = r
		}
	}
	clear(t.refused)
	clear(t.partial)
	t.chains.Load(have)
	t.loaded = true
	return nil
}

// eachFamily runs f for the two families at once.
func eachFamily(f func(i int, family Family) error) error {
	var errs [2]error
	var wg sync.WaitGroup
	for i, family := range Families() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = f(i, family)
		}()
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// Apply writes what differs: per family one restore, which takes effect table by table as a whole or not at all.  It returns how many
// chains it wrote.  A family that fails does not stop the other; what failed stays pending.
func (t *Tables) Apply(ctx context.Context) (int, error) {
	if !t.loaded {
		if err := t.Load(ctx); err != nil {
			return 0, err
		}
	}
	work := map[Family][]Chain{}
	for c := range t.chains.Pending() {
		work[c.Family] = append(work[c.Family], c)
	}
	var refused [2]map[Chain]map[string]Refusal
	var written [2]bool
	err := eachFamily(func(i int, f Family) (err error) {
		if len(work[f]) > 0 {
			refused[i], err = t.write(ctx, f, work[f])
			written[i] = err == nil
		}
		return err
	})
	n := 0
	for i, f := range Families() {
		if !written[i] {
			continue
		}
		n += len(work[f])
		for _, c := range work[f] {
			if w, ok := t.chains.Wanted(c); ok {
				t.chains.Seen(c, w)
			} else {
				t.chains.Gone(c)
			}
			delete(t.partial, c)
			if len(refused[i][c]) > 0 {
				t.refused[c], t.partial[c] = refused[i][c], true
			}
		}
	}
	if t.whole = err != nil; t.whole {
		t.loaded = false // how much of it was done is not known
	}
	return n, err
}

// write brings chains of one family in line and returns the rules it had to leave out.  It only reads t.chains.
func (t *Tables) write(ctx context.Context, f Family, chains []Chain) (map[Chain]map[string]Refusal, error) {
	refused := map[Chain]map[string]Refusal{}
	for tries := 0; ; tries++ {
		text, lines := t.script(chains, refused)
		err := t.feed(ctx, f.program("restore"), []string{"--noflush", "--verbose", "-w", lockWait}, text)
		if err == nil {
			return refused, nil
		}
		at, ok := lines[failedLine(err)]
		if !ok || tries == maxRefused {
			return nil, fmt.Errorf("write %s rules: %w", f, err)
		}
		if refused[at.chain] == nil {
			refused[at.chain] = map[string]Refusal{}
		}
		refused[at.chain][at.rule.Text] = Refusal{at.chain, at.rule.Owner, at.rule.Text, why(err)}
	}
}

// place is where a line of a script comes from.
type place struct {
	chain Chain
	rule  Rule
}

// script prints the input of iptables-restore that makes chains as wanted, and for each line with an owned rule where it is from.
func (t *Tables) script(chains []Chain, refused map[Chain]map[string]Refusal) (string, map[int]place) {
	var b strings.Builder
	lines := map[int]place{}
	n := 0
	put := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
		b.WriteByte('\n')
		n++
	}
	byTable := map[string][]Chain{}
	for _, c := range chains {
		byTable[c.Table] = append(byTable[c.Table], c)
	}
	order := slices.Clone(tableOrder)
	for table := range byTable {
		if !slices.Contains(order, table) {
			order = append(order, table) // of another version's making, to be removed
		}
	}
	for _, table := range order {
		list := byTable[table]
		if len(list) == 0 {
			continue
		}
		sortChains(list)
		put("*", table)
		edits := map[Chain]edit{}
		for _, c := range list {
			if builtIn(c.Name) {
				continue
			}
			if e, ok := t.editable(c); ok && len(refused[c]) == 0 {
				edits[c] = e
				continue
			}
			put(":", c.Name, " - [0:0]") // makes it, or empties it
		}
		for _, c := range list {
			wanted, _ := t.chains.Wanted(c)
			if builtIn(c.Name) {
				have, _ := t.chains.Actual(c)
				for _, r := range have {
					put("-D ", c.Name, " ", r.Text)
				}
				for i, r := range wanted {
					put("-I ", c.Name, " ", strconv.Itoa(i+1), " ", r.Text)
				}
				continue
			}
			owned := func(r Rule) {
				if r.Owner != "" {
					lines[n] = place{c, r}
				}
			}
			if e, ok := edits[c]; ok {
				e.put(c.Name, put, owned)
				continue
			}
			for _, r := range wanted {
				if _, bad := refused[c][r.Text]; bad {
					continue
				}
				put("-A ", c.Name, " ", numbered(r.Text))
				owned(r)
			}
		}
		for _, c := range list {
			if _, ok := t.chains.Wanted(c); !ok && !builtIn(c.Name) {
				put("-X ", c.Name)
			}
		}
		put("COMMIT")
	}
	return b.String(), lines
}

func sortChains(list []Chain) {
	slices.SortFunc(list, func(a, b Chain) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Name, b.Name))
	})
}

var lineRule = regexp.MustCompile(`line:? ([0-9]+)`)

// failedLine is the line of its input that iptables-restore complains of, 0 if it names none.
func failedLine(err error) int {
	m := lineRule.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// why is the complaint alone, on one line.
func why(err error) string {
	s := err.Error()
	if i := strings.Index(s, "\n"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSpace(s)
}
