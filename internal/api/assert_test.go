package api

import "baryon/internal/neutron"

// The rules offer what the API asks for.
var (
	_ Tags           = (*neutron.Service)(nil)
	_ Quotas         = (*neutron.Service)(nil)
	_ DHCPScheduling = (*neutron.Service)(nil)
	_ Bindings       = (*neutron.Service)(nil)
	_ IPAvailability = (*neutron.Service)(nil)
	_ Zones          = (*neutron.Service)(nil)
)
