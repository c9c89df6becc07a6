package openflow

import (
	"context"
	"errors"
	"fmt"
)

// Message is a change of the switch's state: *FlowMod, *GroupMod or *MeterMod.
type Message interface {
	String() string
	messageType() msgType
	appendBody(b []byte, v Version) ([]byte, error)
}

func (m *FlowMod) messageType() msgType { return typeFlowMod }

// Bundle control types (OFPBCT) and flags (OFPBF).
const (
	bundleOpen    = 0
	bundleClose   = 2
	bundleCommit  = 4
	bundleDiscard = 6
	bundleAtomic  = 1
	bundleOrdered = 2
	bundleFlags   = bundleAtomic | bundleOrdered
)

// Apply makes all changes, in order, or none: one atomic, ordered bundle.  When it returns nil they are in force, as after a
// barrier.  When the switch refuses one, the error is a *FlowError that names it.  When ctx ends or the connection breaks while
// the switch commits, the outcome is unknown: dump and compare.
func (c *Conn) Apply(ctx context.Context, mods []FlowMod) error {
	msgs := make([]Message, len(mods))
	for i := range mods {
		msgs[i] = &mods[i]
	}
	return c.ApplyAll(ctx, msgs)
}

// ApplyAll is Apply for flow mods and group mods together.  Open vSwitch takes no meter mods into a bundle; use Send.
func (c *Conn) ApplyAll(ctx context.Context, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	if c.version < V14 {
		return fmt.Errorf("apply bundle: %s has none", c.version)
	}
	if len(msgs) > maxBundle {
		return fmt.Errorf("apply bundle: %d messages, at most %d fit", len(msgs), maxBundle)
	}
	// Transaction ids: open, one per message, close, commit.  The ids tell which message an error is about.
	cl, err := c.begin(len(msgs) + 3)
	if err != nil {
		return err
	}
	defer c.end(cl)
	id := c.nextBundle()
	b := appendBundleControl(nil, c.version, cl.first, id, bundleOpen)
	for i, m := range msgs {
		if b, err = appendBundleAdd(b, c.version, cl.first+1+uint32(i), id, m); err != nil {
			return &FlowError{i, m.String(), err}
		}
	}
	// The answer to close comes after every complaint about a message: a switch that refused one would commit the others.
	cl.await.Store(cl.last - 1)
	b = appendBundleControl(b, c.version, cl.last-1, id, bundleClose)
	if err := c.write(b); err != nil {
		return fmt.Errorf("apply bundle: %w", err)
	}
	if _, err := c.wait(ctx, cl); err != nil || cl.firstErr() != nil {
		_ = c.write(appendBundleControl(nil, c.version, 0, id, bundleDiscard))
		return bundleError(cl, msgs, err)
	}
	cl.await.Store(cl.last)
	if err := c.write(appendBundleControl(nil, c.version, cl.last, id, bundleCommit)); err != nil {
		return fmt.Errorf("apply bundle: %w", err)
	}
	if _, err := c.wait(ctx, cl); err != nil || cl.firstErr() != nil {
		return bundleError(cl, msgs, err)
	}
	return nil
}

// maxBundle bounds the messages of one bundle; a table of Open vSwitch holds as many flows.
const maxBundle = 1 << 20

func (c *Conn) nextBundle() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundleID++
	return c.bundleID
}

// bundleError prefers the switch's first complaint, which is about the message itself, to the commit's, which says only that some
// message failed.
func bundleError(cl *call, msgs []Message, err error) error {
	e := cl.firstErr()
	if e == nil {
		return fmt.Errorf("apply bundle: %w", err)
	}
	if i := int(e.XID) - int(cl.first) - 1; i >= 0 && i < len(msgs) {
		return &FlowError{i, msgs[i].String(), e}
	}
	return &FlowError{-1, "", e}
}

func appendBundleControl(b []byte, v Version, xid, id uint32, typ uint16) []byte {
	start := len(b)
	b = put16(put16(put32(appendHeader(b, v, typeBundleControl, xid), id), typ), bundleFlags)
	b, _ = finishMessage(b, start) // 16 bytes
	return b
}

func appendBundleAdd(b []byte, v Version, xid, id uint32, m Message) ([]byte, error) {
	start := len(b)
	b = put16(append(put32(appendHeader(b, v, typeBundleAdd, xid), id), 0, 0), bundleFlags)
	inner := len(b)
	b, err := m.appendBody(appendHeader(b, v, m.messageType(), xid), v)
	if err != nil {
		return b, err
	}
	if b, err = finishMessage(b, inner); err != nil {
		return b, err
	}
	return finishMessage(b, start)
}

// Send makes changes one by one, without a bundle, and returns after a barrier.  The errors of the switch are joined; what it did
// not refuse is in force.
func (c *Conn) Send(ctx context.Context, msgs ...Message) error {
	var errs []error
	for _, m := range msgs {
		err := c.sendRaw(ctx, m.messageType(), func(b []byte) ([]byte, error) { return m.appendBody(b, c.version) })
		if err != nil {
			errs = append(errs, fmt.Errorf("send %s: %w", m, err))
		}
		if ctx.Err() != nil || c.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
