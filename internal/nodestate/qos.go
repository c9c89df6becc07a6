package nodestate

// QoS is what the policies of a port or of its network make of its traffic.  The zero value limits and marks nothing.
type QoS struct {
	Egress  Rate // from the guest
	Ingress Rate // to the guest
	Marked  bool // packets from the guest carry DSCP
	DSCP    uint8
}

// Rate is a bandwidth limit; a zero Kbps is none.
type Rate struct {
	Kbps  int // kilobits (1000 bits) per second
	Burst int // kilobits; 0: 80 % of Kbps
}
