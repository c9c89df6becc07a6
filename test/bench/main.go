// Command bench measures what DESIGN promises, on this machine, and compares with the committed baseline.  It is run by
// `make bench`; -update writes baseline.json and docs/bench.md.  Figures are medians of several runs on a shared machine:
// compare ratios, not digits.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// figure is one measured value.  Lower is better unless Higher is set.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Higher bool    `json:"higher,omitempty"`
	Goal   string  `json:"goal,omitempty"` // what the design asks for
	Peers  string  `json:"peers,omitempty"`
}

type report struct {
	figures []figure
}

func (r *report) add(f figure) {
	r.figures = append(r.figures, f)
	fmt.Printf("  %-62s %10s %s\n", f.Name, number(f.Value), f.Unit)
}

const (
	baselineFile = "test/bench/baseline.json"
	docFile      = "docs/bench.md"
)

func main() {
	update := flag.Bool("update", false, "write the baseline and docs/bench.md")
	only := flag.String("only", "", "comma-separated parts: api,nodes,security,scale")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *update, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, update bool, only string) error {
	exe := os.Getenv("BARYON_BIN")
	if exe == "" {
		return errors.New("BARYON_BIN names no binary; run: make bench")
	}
	var r report
	parts := []struct {
		name    string
		measure func(context.Context, string, *report) error
	}{{"api", measureAPI}, {"nodes", measureNodes}, {"security", measureSecurity}, {"scale", measureScale}}
	for _, p := range parts {
		if only != "" && !slices.Contains(strings.Split(only, ","), p.name) {
			continue
		}
		fmt.Printf("%s\n", p.name)
		if err := p.measure(ctx, exe, &r); err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
	}
	old, err := readBaseline()
	if err != nil {
		return err
	}
	compareWith(old, r.figures)
	if !update {
		return nil
	}
	merged := merge(old, r.figures)
	text, err := json.MarshalIndent(merged, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(baselineFile, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(docFile, []byte(document(merged)), 0o644)
}

func readBaseline() ([]figure, error) {
	text, err := os.ReadFile(baselineFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var old []figure
	if err := json.Unmarshal(text, &old); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(baselineFile), err)
	}
	return old, nil
}

// merge puts new figures over old ones of the same name and keeps the order.
func merge(old, now []figure) []figure {
	out := slices.Clone(old)
	for _, f := range now {
		if i := slices.IndexFunc(out, func(o figure) bool { return o.Name == f.Name }); i >= 0 {
			out[i] = f
		} else {
			out = append(out, f)
		}
	}
	return out
}

// compareWith prints what is more than 30 % worse than the baseline: on a noisy machine less says nothing.
func compareWith(old, now []figure) {
	const noise = 1.3
	for _, f := range now {
		i := slices.IndexFunc(old, func(o figure) bool { return o.Name == f.Name })
		if i < 0 || old[i].Value == 0 || f.Value == 0 {
			continue
		}
		ratio := f.Value / old[i].Value
		if f.Higher {
			ratio = 1 / ratio
		}
		if ratio > noise {
			fmt.Printf("SLOWER than the baseline by %.1f: %s: %s, was %s %s\n", ratio, f.Name, number(f.Value), number(old[i].Value), f.Unit)
		}
	}
}

func document(list []figure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Measurements\n\nWritten by `make bench` with `-update`; the same figures are in `%s`. Machine: %d cores, shared and noisy;\n"+
		"userspace Open vSwitch. Compare ratios, not digits. The peers' figures were measured on this kind of machine: Neutron Zed\n"+
		"(ML2/OVS) and OVN 23.03.\n\n| what | Baryon | goal | Neutron · OVN |\n|---|---|---|---|\n", baselineFile, runtime.NumCPU())
	for _, f := range list {
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", f.Name, number(f.Value), f.Unit, f.Goal, f.Peers)
	}
	return b.String()
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// quantile of durations, in milliseconds.
func quantile(d []time.Duration, q float64) float64 {
	s := slices.Clone(d)
	slices.Sort(s)
	return ms(s[min(len(s)-1, int(q*float64(len(s))))])
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
