package neutron

import (
	"context"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Trunks are the rules of trunks.
func (s *Service) Trunks() *Kind[model.Trunk] {
	return &Kind[model.Trunk]{
		Def:     model.Trunks,
		Create:  s.createTrunks,
		Update:  s.updateTrunk,
		Delete:  s.deleteTrunk,
		Visible: func(_ store.Read, c *identity.Caller, t *model.Trunk) bool { return c.CanRead(t.ProjectID) },
		Present: presentTrunk,
	}
}

func presentTrunk(r store.Read, _ *identity.Caller, t *model.Trunk) *model.Trunk {
	shown := *t
	shown.Status = trunkStatus(r, t)
	return &shown
}

// trunkStatus follows from what the node of the parent acknowledged: all of it (ACTIVE), not yet all (BUILD), some of it (DEGRADED), nothing
// although it tried (ERROR).
func trunkStatus(r store.Read, t *model.Trunk) string {
	parent, ok := store.Get(r, model.PortTable, string(t.PortID))
	st, said := store.Get(r, model.TrunkStatusTable, string(t.ID))
	if !ok || !said || !parent.Bound() || parent.Binding.Host != st.Host {
		return model.StatusDown
	}
	switch nodestate.State(st.State) {
	case nodestate.Done:
		return model.StatusActive
	case nodestate.Pending:
		return model.StatusBuild
	case nodestate.Failed:
		if status, _ := portStatus(r, parent); status == model.StatusError {
			return model.StatusError
		}
		return model.StatusDegraded
	}
	return model.StatusDown
}

func getTrunk(r store.Read, c *identity.Caller, id model.ID) (*model.Trunk, error) {
	t, ok := store.Get(r, model.TrunkTable, string(id))
	if !ok || !c.CanRead(t.ProjectID) {
		return nil, NotFound("TrunkNotFound", "Trunk %s could not be found.", id)
	}
	return t, nil
}

// trunkOf finds the trunk that a port belongs to, as its parent or inside it.
func trunkOf(r store.Read, port model.ID) (t *model.Trunk, parent, ok bool) {
	for t := range store.Find(r, model.TrunkTable, "port", string(port)) {
		return t, t.PortID == port, true
	}
	return nil, false, false
}

// checkUntrunked refuses a port that is part of a trunk.
func checkUntrunked(r store.Read, port model.ID) error {
	t, parent, ok := trunkOf(r, port)
	switch {
	case !ok:
		return nil
	case parent:
		return Conflict("PortInUseAsTrunkParent", "Port %s is currently a parent port for trunk %s.", port, t.ID)
	}
	return Conflict("PortInUseAsSubPort", "Port %s is currently a subport for trunk %s.", port, t.ID)
}

func (s *Service) createTrunks(ctx context.Context, c *identity.Caller, in []*resource.Input[model.Trunk]) ([]*model.Trunk, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		if err := newCheck("create_trunk", c.CanWrite(project)).err(); err != nil {
			return nil, err
		}
		projects[i] = project
	}
	o.claimAll(quotaTrunk, projects)
	var made []*model.Trunk
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, input := range in {
			t := input.Value
			o.fresh(&t.Standard, projects[i])
			t.SubPorts = nil
			parent, err := o.trunkParent(tx, t.PortID)
			if err != nil {
				return err
			}
			o.ask(model.TrunkTable.Name, "port", string(t.PortID), Conflict("ParentPortInUse",
				"Port %s is currently in use and is not eligible for use as a parent port.", t.PortID))
			if err := o.addSubPorts(tx, &t, parent, input.Value.SubPorts); err != nil {
				return err
			}
			store.Put(tx, model.TrunkTable, &t)
			made = append(made, &t)
		}
		return nil
	})
	return presented(s, c, made, presentTrunk, err)
}

// trunkParent reads a port that is to be the parent of a trunk: its guest must not be plugged yet, for it is plugged into the trunk's bridge.
func (o *op) trunkParent(tx store.Tx, id model.ID) (*model.Port, error) {
	p, err := o.trunkPort(tx, id)
	if err != nil {
		return nil, err
	}
	if p.Binding.Host != "" {
		return nil, Conflict("ParentPortInUse", "Port %s is currently in use and is not eligible for use as a parent port.", id)
	}
	return p, nil
}

// trunkPort reads a port that is to become part of a trunk.
func (o *op) trunkPort(tx store.Tx, id model.ID) (*model.Port, error) {
	p, err := getPort(tx, o.caller, id)
	if err != nil {
		return nil, err
	}
	if err := newCheck("update_port", o.caller.CanWrite(p.ProjectID)).err(); err != nil {
		return nil, err
	}
	return p, checkUntrunked(tx, id)
}

func (s *Service) updateTrunk(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.Trunk], ifMatch *int64,
) (*model.Trunk, error) {
	return s.changeTrunk(ctx, c, id, "update_trunk", ifMatch, func(_ *op, _ store.Tx, t *model.Trunk) error {
		model.Trunks.Apply(t, in)
		return nil
	})
}

// changeTrunk applies a change to a copy of a trunk, whose subports the change may replace but not write to.
func (s *Service) changeTrunk(
	ctx context.Context, c *identity.Caller, id, action string, ifMatch *int64, change func(o *op, tx store.Tx, t *model.Trunk) error,
) (*model.Trunk, error) {
	o := s.newOp(c)
	var out *model.Trunk
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := getTrunk(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck(action, c.CanWrite(old.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&old.Standard, ifMatch); err != nil {
			return err
		}
		t := *old
		if err := change(o, tx, &t); err != nil {
			return err
		}
		o.touch(&t.Standard)
		store.Put(tx, model.TrunkTable, &t)
		out = &t
		return nil
	})
	return one(s, c, out, presentTrunk, err)
}

// SubPorts returns what a trunk carries.
func (s *Service) SubPorts(ctx context.Context, c *identity.Caller, id string) ([]model.SubPort, error) {
	var out []model.SubPort
	err := s.st.View(ctx, func(r store.Read) error {
		t, err := getTrunk(r, c, model.ID(id))
		if err == nil {
			out = t.SubPorts
		}
		return err
	})
	return out, err
}

// AddSubPorts puts ports into a trunk and returns it.
func (s *Service) AddSubPorts(ctx context.Context, c *identity.Caller, id string, add []model.SubPort) (*model.Trunk, error) {
	return s.changeTrunk(ctx, c, id, "add_subports", nil, func(o *op, tx store.Tx, t *model.Trunk) error {
		if err := checkUnlocked(t); err != nil {
			return err
		}
		parent, ok := store.Get(tx, model.PortTable, string(t.PortID))
		if !ok {
			return NotFound("PortNotFound", "Port %s could not be found.", t.PortID)
		}
		return o.addSubPorts(tx, t, parent, add)
	})
}

// RemoveSubPorts takes ports out of a trunk and returns it.  They are bound to no host afterwards.
func (s *Service) RemoveSubPorts(ctx context.Context, c *identity.Caller, id string, remove []model.SubPort) (*model.Trunk, error) {
	return s.changeTrunk(ctx, c, id, "remove_subports", nil, func(o *op, tx store.Tx, t *model.Trunk) error {
		if err := checkUnlocked(t); err != nil {
			return err
		}
		rest := slices.Clone(t.SubPorts)
		for _, sub := range remove {
			i := slices.IndexFunc(rest, func(s model.SubPort) bool { return s.PortID == sub.PortID })
			if i < 0 {
				return NotFound("SubPortNotFound", "SubPort on trunk %s with parent port %s could not be found.", t.ID, sub.PortID)
			}
			rest = slices.Delete(rest, i, i+1)
			o.freeSubPort(tx, sub.PortID)
		}
		if t.SubPorts = rest; len(rest) == 0 {
			t.SubPorts = nil
		}
		return nil
	})
}

func checkUnlocked(t *model.Trunk) error {
	if !t.AdminStateUp {
		return Conflict("TrunkDisabled", "Trunk %s is currently disabled.", t.ID)
	}
	return nil
}

func (s *Service) deleteTrunk(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		t, err := getTrunk(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("delete_trunk", c.CanWrite(t.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&t.Standard, ifMatch); err != nil {
			return err
		}
		if p, ok := store.Get(tx, model.PortTable, string(t.PortID)); ok && p.Binding.Host != "" {
			return Conflict("TrunkInUse", "Trunk %s is currently in use.", id)
		}
		for _, sub := range t.SubPorts {
			o.freeSubPort(tx, sub.PortID)
		}
		store.Delete(tx, model.TrunkTable, id)
		store.Delete(tx, model.TrunkStatusTable, id)
		return nil
	})
}
