// Package bridgenic takes a NIC that the host itself lives on into a bridge of Open vSwitch, and gives it back, without cutting the host off:
// its addresses and routes move to the bridge's own device, which keeps the NIC's MAC.
//
// Data flow: Take writes down in a journal what the NIC has, moves it, and confirms that whoever answered before (a server, a gateway)
// answers still; if nobody does in time, everything is put back.  Undo moves what the bridge has by then.  Repair finishes or takes back
// what a crash has left half done, and does a confirmed move again after a reboot.
//
// Ownership: a port that it makes carries external_ids:baryon-nic; a bridge that it makes is removed by Undo when nothing else is on it.
// One process at a time works in a state directory (a lock that ends with the process).
package bridgenic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
)

// Config says where and how carefully.
type Config struct {
	StateDir    string        // of the agent; the journals are in bridge-nic/ below it
	OVSRunDir   string        // where Open vSwitch keeps db.sock
	Datapath    string        // of a bridge that is made; "": br-int's, or what this kernel carries
	Servers     []string      // host:port of servers that must stay reachable
	Confirm     time.Duration // how long the host may be unreachable before everything is put back; 0: 30 s
	Unconfirmed bool          // go on although nothing answers that could confirm
	Log         *slog.Logger

	crash func(step string) error // tests: what happens after a step; an error ends the process there
}

// Errors of Take and Undo.
var (
	ErrBusy       = errors.New("another process is at work on the node's NICs")
	ErrRolledBack = errors.New("nobody answered any more, so everything was put back")
)

// phase is how far a journal is.
type phase string

const (
	taking    phase = "taking"    // what the NIC had is in the journal; put it back
	taken     phase = "taken"     // confirmed
	returning phase = "returning" // what the bridge had is in the journal; give it to the NIC
)

// journal is what is written down of one NIC.
type journal struct {
	Bridge     string        `json:"bridge"`
	NIC        string        `json:"nic"`
	Phase      phase         `json:"phase"`
	MadeBridge bool          `json:"made_bridge"`
	WasUp      bool          `json:"was_up"`
	MTU        int           `json:"mtu"`
	Identity   rtnl.Identity `json:"identity"`
}

// mark is on the port that Take makes.
const mark = "external_ids:baryon-nic"

const defaultConfirm = 30 * time.Second

// work is one call with its open handles.
type work struct {
	Config
	ns   *rtnl.Namespace
	lock *os.File
}

func (c Config) open() (*work, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Confirm <= 0 {
		c.Confirm = defaultConfirm
	}
	dir := filepath.Join(c.StateDir, "bridge-nic")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock journals: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, ErrBusy
	}
	ns, err := rtnl.Open("")
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &work{Config: c, ns: ns, lock: lock}, nil
}

func (w *work) close() {
	w.ns.Close()
	w.lock.Close()
}

func (w *work) path(bridge string) string {
	return filepath.Join(w.StateDir, "bridge-nic", bridge+".json")
}

// write puts a journal on disk before anything that it speaks of is done.
func (w *work) write(j *journal) error {
	text, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	tmp := w.path(j.Bridge) + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, w.path(j.Bridge))
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// maxJournal bounds a journal that is read, in bytes.
const maxJournal = 1 << 20

// read is the journal of a bridge, nil if there is none.
func (w *work) read(bridge string) (*journal, error) {
	info, err := os.Stat(w.path(bridge))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxJournal {
		err = fmt.Errorf("%s has more than %d bytes", w.path(bridge), maxJournal)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(w.path(bridge))
	}
	var j journal
	if err == nil {
		err = json.Unmarshal(text, &j)
	}
	if err == nil && (j.Bridge != bridge || names.CheckDevice(j.NIC) != nil) {
		err = errors.New("it is not of this bridge")
	}
	if err != nil {
		return nil, fmt.Errorf("read journal of %s: %w", bridge, err)
	}
	return &j, nil
}

func (w *work) forget(bridge string) error {
	if err := os.Remove(w.path(bridge)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove journal: %w", err)
	}
	return nil
}

func (w *work) vsctl(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	db := "--db=unix:" + filepath.Join(w.OVSRunDir, "db.sock")
	out, err := exec.CommandContext(ctx, "ovs-vsctl", append([]string{db, "--timeout=15"}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ovs-vsctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// after is where a test lets the process end.
func (w *work) after(step string) error {
	if w.crash == nil {
		return nil
	}
	return w.crash(step)
}

// port is the bridge that has a device as a port, "" if none has.
func (w *work) port(ctx context.Context, device string) (string, error) {
	found, err := w.vsctl(ctx, "--bare", "--columns=name", "find", "Port", "name="+device)
	if err != nil || found == "" {
		return "", err
	}
	return w.vsctl(ctx, "port-to-br", device)
}

func (w *work) hasBridge(ctx context.Context, name string) (bool, error) {
	list, err := w.vsctl(ctx, "list-br")
	if err != nil {
		return false, err
	}
	for b := range strings.FieldsSeq(list) {
		if b == name {
			return true, nil
		}
	}
	return false, nil
}

func (w *work) datapath(ctx context.Context) (string, error) {
	if w.Datapath != "" {
		return w.Datapath, nil
	}
	found, err := w.vsctl(ctx, "--bare", "--columns=datapath_type", "find", "Bridge", "name="+names.BrInt)
	if err != nil || found != "" {
		return found, err
	}
	return ovsdb.DetectDatapath(ctx), nil
}

// witness is somebody who tells by answering that the host is not cut off.
type witness struct {
	name    string
	answers func(ctx context.Context, device string) bool
}

// witnesses are the servers, and the gateways of the default routes that are moved.
func (w *work) witnesses(id rtnl.Identity) []witness {
	var out []witness
	for _, s := range w.Servers {
		out = append(out, witness{"server " + s, func(ctx context.Context, _ string) bool {
			d := net.Dialer{Timeout: time.Second}
			c, err := d.DialContext(ctx, "tcp", s)
			if err != nil {
				return false
			}
			_ = c.Close() // that it was there is enough
			return true
		}})
	}
	for _, r := range id.Routes {
		if r.Destination.Bits() != 0 || !r.Gateway.IsValid() {
			continue
		}
		out = append(out, witness{"gateway " + r.Gateway.String(), func(_ context.Context, device string) bool {
			return w.gateway(device, r.Gateway)
		}})
	}
	return out
}

// gateway asks for the MAC of a gateway, by sending it something that it will throw away.
func (w *work) gateway(device string, ip netip.Addr) bool {
	host := ip.String()
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		host += "%" + device
	}
	const discard = "9"
	c, err := net.DialTimeout("udp", net.JoinHostPort(host, discard), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_, _ = c.Write([]byte{0}) // who is asked, not what is sent, counts
	known, err := w.ns.Answers(device, ip)
	return err == nil && known
}

// pause between two looks at the witnesses.
const pause = 50 * time.Millisecond

// wait looks until one of the witnesses answers on a device.
func wait(ctx context.Context, list []witness, device string, limit time.Duration) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		for _, x := range list {
			if x.answers(ctx, device) {
				return x.name, true
			}
		}
		select {
		case <-ctx.Done():
			return "", false
		case <-time.After(pause):
		}
	}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
