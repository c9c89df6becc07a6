// Package conntrack lists and ends the tracked connections of Open vSwitch's datapath.
//
// It speaks to ovs-vswitchd over its control socket (JSON-RPC, ovs-appctl(8)), whose dpctl commands reach the userspace and the
// kernel datapath alike; no process is started.  What it cannot remove is marked by a packet of its own (Mark).  A Table has one caller at a time; it dials when needed and again after an error, so
// that a restarted ovs-vswitchd is found.
package conntrack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Entry is a tracked connection, by its original direction.
type Entry struct {
	Zone             uint16
	Mark             uint32
	Protocol         uint8
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // 0 for protocols without ports, and in the userspace datapath for SCTP
	ID               uint16 // of ICMP
	Type, Code       uint8  // of ICMP
}

// Table is the connection table of one datapath.
type Table struct {
	runDir   string
	datapath func() string
	conn     net.Conn
	dec      *json.Decoder
	next     uint64
}

// New makes the table of an Open vSwitch that keeps its sockets in runDir.  datapath tells the present type, system or netdev.
func New(runDir string, datapath func() string) *Table {
	return &Table{runDir: runDir, datapath: datapath}
}

// Close ends the connection; a later call dials again.
func (t *Table) Close() {
	if t.conn != nil {
		_ = t.conn.Close() // nothing is unsent
		t.conn = nil
	}
}

// All lists the entries of every zone.
const All = -1

// List lists the entries of a zone, or All.  Lines that make no sense are an error: a connection that cannot be read cannot be ended.
func (t *Table) List(ctx context.Context, zone int) ([]Entry, error) {
	args := []string{t.name()}
	if zone != All {
		args = append(args, "zone="+strconv.Itoa(zone))
	}
	text, err := t.call(ctx, "dpctl/dump-conntrack", args...)
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	var out []Entry
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
		if zone == All || int(e.Zone) == zone {
			out = append(out, e)
		}
	}
	return out, nil
}

// ErrStays says that the datapath cannot remove a connection.
var ErrStays = errors.New("the datapath cannot remove the connection")

// Delete ends a connection, in both directions.  That it has gone already is success.
//
// The userspace datapath of Open vSwitch 3.1 aborts when it is asked to remove an ICMPv6 entry (it looks for the reply's type among
// those of ICMP).  There Delete asks nothing and returns ErrStays: Mark the connection, and let flows go by the mark.
func (t *Table) Delete(ctx context.Context, e Entry) error {
	if e.Protocol == protocols["icmpv6"] && t.datapath() == "netdev" {
		return ErrStays
	}
	err := t.flush(ctx, "zone="+strconv.Itoa(int(e.Zone)), tuple(e))
	var refused *refusedError
	if errors.As(err, &refused) && (strings.Contains(refused.text, "No such file") || strings.Contains(refused.text, "ENOENT")) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end connection %s: %w", e, err)
	}
	return nil
}

// Flush ends all connections of a zone.
func (t *Table) Flush(ctx context.Context, zone int) error {
	if err := t.flush(ctx, "zone="+strconv.Itoa(zone)); err != nil {
		return fmt.Errorf("end connections of zone %d: %w", zone, err)
	}
	return nil
}

// flush names the datapath only when there are several: Open vSwitch 3.1 takes the name for a part of the connection.
func (t *Table) flush(ctx context.Context, args ...string) error {
	_, err := t.call(ctx, "dpctl/flush-conntrack", args...)
	var refused *refusedError
	if errors.As(err, &refused) && strings.Contains(refused.text, "multiple datapaths") {
		_, err = t.call(ctx, "dpctl/flush-conntrack", append([]string{t.name()}, args...)...)
	}
	return err
}

// Settle returns when the datapath acts by the present flow tables: Open vSwitch revises what it has cached of them in the background,
// and until then an old decision could still make an entry.
func (t *Table) Settle(ctx context.Context) error {
	if _, err := t.call(ctx, "revalidator/wait"); err != nil {
		return fmt.Errorf("wait for the datapath: %w", err)
	}
	return nil
}

// String prints an entry as a person would name it.
func (e Entry) String() string {
	s := fmt.Sprintf("protocol %d %s → %s", e.Protocol, e.Src, e.Dst)
	if e.SrcPort != 0 || e.DstPort != 0 {
		s = fmt.Sprintf("protocol %d %s → %s", e.Protocol, netip.AddrPortFrom(e.Src, e.SrcPort), netip.AddrPortFrom(e.Dst, e.DstPort))
	}
	return s + fmt.Sprintf(" in zone %d", e.Zone)
}

func (t *Table) name() string {
	if t.datapath() == "netdev" {
		return "netdev@ovs-netdev"
	}
	return "system@ovs-system"
}

// refusedError is what ovs-vswitchd says when it does not do what it is asked.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return strings.TrimSpace(e.text) }

// answerTimeout bounds one request.
const answerTimeout = 10 * time.Second

func (t *Table) call(ctx context.Context, method string, params ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	old := t.conn != nil
	text, err := t.try(ctx, method, params)
	var refused *refusedError
	if err != nil && old && !errors.As(err, &refused) && ctx.Err() == nil {
		text, err = t.try(ctx, method, params) // the connection of before was of an ovs-vswitchd that has gone
	}
	return text, err
}

func (t *Table) try(ctx context.Context, method string, params []string) (string, error) {
	if t.conn == nil {
		if err := t.dial(ctx); err != nil {
			return "", err
		}
	}
	conn := t.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends a read that waits
	text, err := t.exchange(method, params)
	var refused *refusedError
	if !stop() || err != nil && !errors.As(err, &refused) {
		t.Close()
	}
	return text, err
}

func (t *Table) exchange(method string, params []string) (string, error) {
	t.next++
	if params == nil {
		params = []string{} // null is no list
	}
	req, err := json.Marshal(map[string]any{"id": t.next, "method": method, "params": params})
	if err != nil {
		return "", err
	}
	if _, err := t.conn.Write(req); err != nil {
		return "", err
	}
	for {
		var ans struct {
			ID     *uint64 `json:"id"`
			Result *string `json:"result"`
			Error  *string `json:"error"`
		}
		if err := t.dec.Decode(&ans); err != nil {
			return "", fmt.Errorf("read answer to %s: %w", method, err)
		}
		switch {
		case ans.ID == nil || *ans.ID != t.next:
			continue
		case ans.Error != nil:
			return "", &refusedError{*ans.Error}
		case ans.Result == nil:
			return "", nil
		}
		return *ans.Result, nil
	}
}

func (t *Table) dial(ctx context.Context) error {
	path, err := t.socket()
	if err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("reach ovs-vswitchd: %w", err)
	}
	t.conn, t.dec = conn, json.NewDecoder(conn)
	return nil
}

// socket finds ovs-vswitchd's control socket: it has the process's number in its name unless it was told otherwise.
func (t *Table) socket() (string, error) {
	if text, err := os.ReadFile(filepath.Join(t.runDir, "ovs-vswitchd.pid")); err == nil {
		path := filepath.Join(t.runDir, "ovs-vswitchd."+strings.TrimSpace(string(text))+".ctl")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path := filepath.Join(t.runDir, "ovs-vswitchd.ctl")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find control socket of ovs-vswitchd: %w", err)
	}
	return path, nil
}
