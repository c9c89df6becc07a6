package bridgenic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
)

// firstAnswer is how long whoever could confirm has to answer before anything is moved.
const firstAnswer = 3 * time.Second

// Take puts a NIC into a bridge, which it makes if there is none, and moves the NIC's addresses and routes to it.  A NIC that is in
// already is success.
func Take(ctx context.Context, c Config, bridge, nic string) error {
	w, err := c.open()
	if err != nil {
		return err
	}
	defer w.close()
	return wrap("take "+nic+" into "+bridge, w.take(ctx, bridge, nic))
}

func (w *work) take(ctx context.Context, bridge, nic string) error {
	if err := w.repair(ctx, false); err != nil {
		return err
	}
	j, err := w.read(bridge)
	if err != nil {
		return err
	}
	if j != nil {
		if j.NIC == nic {
			return nil
		}
		return fmt.Errorf("bridge %s has taken NIC %s; undo that first", bridge, j.NIC)
	}
	dev, err := w.check(ctx, bridge, nic)
	if err != nil {
		return err
	}
	id, err := w.ns.Identity(nic)
	if err != nil {
		return err
	}
	there, err := w.hasBridge(ctx, bridge)
	if err != nil {
		return err
	}
	if there {
		// What is asked before must be true after: a bridge that has addresses of its own stays the host's end of another network.
		if have, err := w.ns.Identity(bridge); err != nil || len(have.Addresses) > 0 {
			return errors.Join(err, fmt.Errorf("bridge %s has addresses of its own", bridge))
		}
	}
	list, err := w.confirmers(ctx, nic, id)
	if err != nil {
		return err
	}
	j = &journal{Bridge: bridge, NIC: nic, Phase: taking, MadeBridge: !there, WasUp: dev.Up, MTU: dev.MTU, Identity: id}
	if err := w.write(j); err != nil {
		return err
	}
	if err := w.after("journal"); err != nil {
		return err
	}
	err = w.move(ctx, j, dev)
	if errors.Is(err, errCrash) {
		return err
	}
	if err == nil && len(list) > 0 {
		if who, ok := wait(ctx, list, bridge, w.Confirm); ok {
			w.Log.Info("the node is still reached", "bridge", bridge, "nic", nic, "by", who)
		} else {
			err = ErrRolledBack
		}
	}
	if err != nil {
		// The caller may have been told to stop: what was begun is put back all the same.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(err, w.rollBack(back, j))
	}
	j.Phase = taken
	if err := w.write(j); err != nil {
		return err
	}
	w.Log.Info("NIC taken into bridge", "bridge", bridge, "nic", nic, "addresses", len(id.Addresses), "routes", len(id.Routes))
	return nil
}

// errCrash is how tests end the process midway.
var errCrash = errors.New("crash")

// check tells what speaks against taking a NIC.
func (w *work) check(ctx context.Context, bridge, nic string) (rtnl.NIC, error) {
	var none rtnl.NIC
	if err := errors.Join(names.CheckDevice(bridge), names.CheckDevice(nic)); err != nil {
		return none, err
	}
	if bridge == names.BrInt || bridge == names.BrTun || strings.HasPrefix(bridge, names.TrunkPrefix) {
		return none, fmt.Errorf("bridge %s is the agent's own", bridge)
	}
	dev, there, err := w.ns.NIC(nic)
	switch {
	case err != nil:
		return none, err
	case !there:
		return none, fmt.Errorf("NIC %s does not exist", nic)
	case dev.Loopback || dev.Kind == "bridge" || dev.Kind == "openvswitch":
		return none, fmt.Errorf("%s is no NIC (it is of kind %s)", nic, dev.Kind)
	}
	has, err := w.hasBridge(ctx, bridge)
	if err != nil {
		return none, err
	}
	if index, err := w.ns.Index(bridge); err != nil || index != 0 && !has {
		return none, errors.Join(err, fmt.Errorf("%s is a network device of this host, not a bridge of Open vSwitch", bridge))
	}
	if isBridge, err := w.hasBridge(ctx, nic); err != nil || isBridge {
		return none, errors.Join(err, fmt.Errorf("%s is a bridge", nic))
	}
	on, err := w.port(ctx, nic)
	switch {
	case err != nil:
		return none, err
	case on != "":
		return none, fmt.Errorf("NIC %s is a port of bridge %s already", nic, on)
	case dev.Master:
		return none, fmt.Errorf("NIC %s is a port of another device already", nic)
	}
	return dev, nil
}

// confirmers are those who answer now.  When the NIC carries something of the host's, there must be one.
func (w *work) confirmers(ctx context.Context, nic string, id rtnl.Identity) ([]witness, error) {
	var list []witness
	for _, x := range w.witnesses(id) {
		if _, ok := wait(ctx, []witness{x}, nic, firstAnswer); ok {
			list = append(list, x)
		}
	}
	carries := false
	for _, r := range id.Routes {
		carries = carries || r.Destination.Bits() == 0
	}
	if len(list) == 0 && carries && !w.Unconfirmed {
		return nil, errors.New("it carries the default route, and neither a server nor the gateway answers now: nobody could confirm that the node is not cut off")
	}
	return list, nil
}

// move makes the bridge and moves what the NIC has.
func (w *work) move(ctx context.Context, j *journal, dev rtnl.NIC) error {
	args := []string{}
	if j.MadeBridge {
		datapath, err := w.datapath(ctx)
		if err != nil {
			return err
		}
		args = append(args, "--may-exist", "add-br", j.Bridge, "--", "set", "Bridge", j.Bridge, "datapath_type="+datapath,
			`other_config:hwaddr="`+dev.MAC.String()+`"`, "--", "set", "Interface", j.Bridge, "mtu_request="+strconv.Itoa(j.MTU), "--")
	}
	args = append(args, "--may-exist", "add-port", j.Bridge, j.NIC, "--", "set", "Port", j.NIC, mark+"="+j.Bridge)
	if _, err := w.vsctl(ctx, args...); err != nil {
		return err
	}
	if err := w.after("port"); err != nil {
		return err
	}
	if err := errors.Join(w.ns.Raise(j.NIC), w.ns.Raise(j.Bridge)); err != nil {
		return err
	}
	if err := w.ns.Give(j.Bridge, j.Identity); err != nil {
		return err
	}
	if err := w.after("give"); err != nil {
		return err
	}
	return w.ns.Strip(j.NIC, j.Identity)
}

// rollBack puts everything back as the journal has it.
func (w *work) rollBack(ctx context.Context, j *journal) error {
	err := w.giveBack(ctx, j)
	if err == nil {
		err = w.forget(j.Bridge)
	}
	if err == nil {
		w.Log.Warn("NIC put back", "bridge", j.Bridge, "nic", j.NIC)
	}
	return wrap("put "+j.NIC+" back", err)
}

// giveBack takes the NIC out of its bridge and gives it what the journal has.  It can be done again.
func (w *work) giveBack(ctx context.Context, j *journal) error {
	on, err := w.port(ctx, j.NIC)
	if err != nil {
		return err
	}
	if on == j.Bridge {
		if _, err := w.vsctl(ctx, "--if-exists", "del-port", j.Bridge, j.NIC); err != nil {
			return err
		}
	}
	if err := w.after("del-port"); err != nil {
		return err
	}
	if err := w.ns.Raise(j.NIC); err != nil {
		return err
	}
	if err := w.ns.Give(j.NIC, j.Identity); err != nil {
		return err
	}
	if err := w.ns.Strip(j.Bridge, j.Identity); err != nil {
		return err
	}
	if !j.MadeBridge {
		return nil
	}
	return w.removeBridge(ctx, j.Bridge)
}

// removeBridge removes a bridge that Take made, unless something is on it by now or the agent programs it.
func (w *work) removeBridge(ctx context.Context, bridge string) error {
	there, err := w.hasBridge(ctx, bridge)
	if err != nil || !there {
		return err
	}
	ports, err := w.vsctl(ctx, "list-ports", bridge)
	if err != nil || ports != "" {
		return err
	}
	_, err = w.vsctl(ctx, "--if-exists", "del-br", bridge)
	return err
}

// Undo gives a NIC back what its bridge has, and takes it out.
func Undo(ctx context.Context, c Config, bridge string) error {
	w, err := c.open()
	if err != nil {
		return err
	}
	defer w.close()
	return wrap("give back the NIC of "+bridge, w.undo(ctx, bridge))
}

func (w *work) undo(ctx context.Context, bridge string) error {
	if err := w.repair(ctx, false); err != nil {
		return err
	}
	j, err := w.read(bridge)
	if err != nil {
		return err
	}
	if j == nil {
		return fmt.Errorf("bridge %s has taken no NIC", bridge)
	}
	// Addresses and routes may have changed since.
	if j.Identity, err = w.ns.Identity(bridge); err != nil {
		return err
	}
	j.Phase = returning
	if err := w.write(j); err != nil {
		return err
	}
	if err := w.giveBack(ctx, j); err != nil {
		return err
	}
	w.Log.Info("NIC given back", "bridge", bridge, "nic", j.NIC)
	return w.forget(bridge)
}

// Repair ends what a crash has left half done.  With boot, confirmed moves are done again whose addresses have gone, as after a reboot.
// Nothing to do is success, and so is another process at work.
func Repair(ctx context.Context, c Config, boot bool) error {
	found, err := filepath.Glob(filepath.Join(c.StateDir, "bridge-nic", "*.json"))
	if err != nil || len(found) == 0 {
		return err
	}
	w, err := c.open()
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.close()
	return wrap("repair NICs", w.repair(ctx, boot))
}

func (w *work) repair(ctx context.Context, boot bool) error {
	list, err := os.ReadDir(filepath.Join(w.StateDir, "bridge-nic"))
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range list {
		bridge, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok {
			continue
		}
		j, err := w.read(bridge)
		switch {
		case err != nil || j == nil:
		case j.Phase != taken:
			err = w.rollBack(ctx, j)
		case boot:
			err = w.again(ctx, j)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// again does a confirmed move again whose addresses the bridge has lost.
func (w *work) again(ctx context.Context, j *journal) error {
	have, there, err := w.ns.NIC(j.NIC)
	if err != nil || !there {
		return err // the NIC may come later
	}
	if id, err := w.ns.Identity(j.Bridge); err == nil && len(id.Addresses) > 0 || len(j.Identity.Addresses) == 0 {
		return nil
	}
	w.Log.Info("taking NIC into bridge again", "bridge", j.Bridge, "nic", j.NIC)
	return w.move(ctx, j, have)
}
