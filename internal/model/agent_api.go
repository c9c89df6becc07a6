package model

import (
	"time"

	"baryon/internal/resource"
)

// Agents defines the resource agent.
var Agents = resource.Define(AgentTable, "agent", "agents",
	resource.Attr("id", func(a *Agent) *ID { return &a.ID }, resource.UUID[ID](),
		resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex), resource.Ext("agent")),
	resource.Attr("agent_type", func(a *Agent) *string { return &a.Type }, resource.String(maxName), resource.Filter, resource.Sort, resource.Ext("agent")),
	resource.Attr("binary", func(a *Agent) *string { return &a.Binary }, resource.String(maxName), resource.Filter, resource.Sort, resource.Ext("agent")),
	resource.Attr("topic", func(a *Agent) *string { return &a.Topic }, resource.String(maxName), resource.Filter, resource.Sort, resource.Ext("agent")),
	resource.Attr("host", func(a *Agent) *string { return &a.Host }, resource.String(maxName),
		resource.Filter, resource.Sort, resource.Indexed("host"), resource.Ext("agent")),
	resource.Attr("availability_zone", func(a *Agent) *string { return &a.AvailabilityZone }, resource.NullString(maxName),
		resource.Filter, resource.Ext("agent")),
	resource.Attr("admin_state_up", func(a *Agent) *bool { return &a.AdminStateUp }, resource.Bool(),
		resource.UpdateOnly, resource.Filter, resource.Policy("admin"), resource.Ext("agent")),
	resource.Attr("alive", func(a *Agent) *bool { return &a.Alive }, resource.Bool(), resource.Presented, resource.Filter, resource.Ext("agent")),
	resource.Attr("description", func(a *Agent) *string { return &a.Description }, resource.NullString(maxDescription),
		resource.UpdateOnly, resource.Filter, resource.Policy("admin"), resource.Ext("agent")),
	resource.Attr("created_at", func(a *Agent) *time.Time { return &a.CreatedAt }, resource.Time(resource.LayoutAgent), resource.Ext("agent")),
	resource.Attr("started_at", func(a *Agent) *time.Time { return &a.StartedAt }, resource.Time(resource.LayoutAgent),
		resource.Presented, resource.Ext("agent")),
	resource.Attr("heartbeat_timestamp", func(a *Agent) *time.Time { return &a.HeartbeatAt }, resource.Time(resource.LayoutAgent),
		resource.Presented, resource.Ext("agent")),
	resource.Attr("configurations", func(a *Agent) *map[string]any { return &a.Configurations }, resource.AnyObject(),
		resource.Presented, resource.Ext("agent")),
)
