package pipeline

// RegQoS is 1 once a packet has passed its port's meter and been marked: it enters table 0 a second time then.
const RegQoS = 2

// MeterBase is the number of the first meter of ours; the meter of the port with OpenFlow number n is MeterBase + n.  A meter has no cookie:
// the range of its number is its mark.  All of it is below the 200,000 meters that a datapath has at most.
const MeterBase = 1 << 16

// OwnMeter tells a meter of ours by its number.
func OwnMeter(id uint32) bool { return id > MeterBase && id < 2*MeterBase }

// Rules of br-int about the quality of service of ports.
var (
	QoSMark = &Rule{0x90, Classify, 65535, "ip or ipv6,in_port=P,reg2=0", "meter, set reg2, set ip_dscp, resubmit(,0)",
		"What the port sends is limited, and carries the DSCP value of its policy; then it is looked at again."}
	QoSLimit = &Rule{0x91, Classify, 65534, "in_port=P,reg2=0", "meter, set reg2, resubmit(,0)",
		"What the port sends is limited; then it is looked at again."}
)
