package ovsdb

// The columns of the Open_vSwitch schema that the driver reads or writes (ovs-vswitchd.conf.db(5)); columns that change by
// themselves every few seconds (statistics) are not among them.

type rootRow struct {
	UUID    string   `ovsdb:"_uuid"`
	Bridges []string `ovsdb:"bridges"`
	CurCfg  int      `ovsdb:"cur_cfg"`
	NextCfg int      `ovsdb:"next_cfg"`
	Version *string  `ovsdb:"ovs_version"`
}

type bridgeRow struct {
	UUID         string            `ovsdb:"_uuid"`
	Name         string            `ovsdb:"name"`
	DatapathType string            `ovsdb:"datapath_type"`
	FailMode     *string           `ovsdb:"fail_mode"`
	Protocols    []string          `ovsdb:"protocols"`
	OtherConfig  map[string]string `ovsdb:"other_config"`
	ExternalIDs  map[string]string `ovsdb:"external_ids"`
	Ports        []string          `ovsdb:"ports"`
	Controller   []string          `ovsdb:"controller"`
}

type portRow struct {
	UUID        string            `ovsdb:"_uuid"`
	Name        string            `ovsdb:"name"`
	Interfaces  []string          `ovsdb:"interfaces"`
	Tag         *int              `ovsdb:"tag"`
	VLANMode    *string           `ovsdb:"vlan_mode"`
	Trunks      []int             `ovsdb:"trunks"`
	OtherConfig map[string]string `ovsdb:"other_config"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
	QoS         *string           `ovsdb:"qos"`
}

type qosRow struct {
	UUID        string            `ovsdb:"_uuid"`
	Type        string            `ovsdb:"type"`
	OtherConfig map[string]string `ovsdb:"other_config"`
	Queues      map[int]string    `ovsdb:"queues"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
}

type queueRow struct {
	UUID        string            `ovsdb:"_uuid"`
	OtherConfig map[string]string `ovsdb:"other_config"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
}

type interfaceRow struct {
	UUID        string            `ovsdb:"_uuid"`
	Name        string            `ovsdb:"name"`
	Type        string            `ovsdb:"type"`
	Options     map[string]string `ovsdb:"options"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
	MTURequest  *int              `ovsdb:"mtu_request"`
	OFPort      *int              `ovsdb:"ofport"`
	MACInUse    *string           `ovsdb:"mac_in_use"`
	LinkState   *string           `ovsdb:"link_state"`
	Error       *string           `ovsdb:"error"`

	PolicingRate  int `ovsdb:"ingress_policing_rate"`
	PolicingBurst int `ovsdb:"ingress_policing_burst"`
}

type controllerRow struct {
	UUID            string  `ovsdb:"_uuid"`
	Target          string  `ovsdb:"target"`
	IsConnected     bool    `ovsdb:"is_connected"`
	InactivityProbe *int    `ovsdb:"inactivity_probe"`
	MaxBackoff      *int    `ovsdb:"max_backoff"`
	ConnectionMode  *string `ovsdb:"connection_mode"`
}

const (
	tableRoot       = "Open_vSwitch"
	tableBridge     = "Bridge"
	tablePort       = "Port"
	tableInterface  = "Interface"
	tableController = "Controller"
	tableQoS        = "QoS"
	tableQueue      = "Queue"
)
