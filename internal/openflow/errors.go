package openflow

import (
	"fmt"
)

// Error is an error message of a switch.  Data is what it sent back of the offending message, header included: at least 64 bytes
// of it, fewer if the message was shorter.
type Error struct {
	XID          uint32
	Type, Code   uint16
	Experimenter uint32 // 0 for the errors of the specification
	Data         []byte
}

// Error prints the name that ovs-ofctl prints, with the numbers.
func (e *Error) Error() string {
	name := errorName(e.Type, e.Code)
	if e.Experimenter != 0 {
		return fmt.Sprintf("switch refused: experimenter %#x error %d", e.Experimenter, e.Code)
	}
	if e.Type == 0 && len(e.Data) > 0 { // HELLO_FAILED carries text
		return fmt.Sprintf("switch refused: %s (type %d code %d): %.200q", name, e.Type, e.Code, e.Data)
	}
	return fmt.Sprintf("switch refused: %s (type %d code %d)", name, e.Type, e.Code)
}

// FlowError says which message of an Apply the switch refused.
type FlowError struct {
	Index   int    // in the list given to Apply; -1 when the switch did not say
	Message string // the flow mod in text form
	Err     error  // usually *Error
}

// Error names the message and the reason.
func (e *FlowError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("apply bundle: %v", e.Err)
	}
	return fmt.Sprintf("apply %s: %v", e.Message, e.Err)
}

// Unwrap returns the reason.
func (e *FlowError) Unwrap() error { return e.Err }

func decodeError(h header, b []byte) (*Error, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("decode error message: %w", errShort)
	}
	e := &Error{XID: h.xid, Type: be16(b), Code: be16(b[2:])}
	b = b[4:]
	if e.Type == 0xffff {
		if len(b) < 4 {
			return nil, fmt.Errorf("decode error message: %w", errShort)
		}
		e.Experimenter = be32(b)
		b = b[4:]
	}
	e.Data = append([]byte(nil), b...)
	return e, nil
}

// errorTypes names OFPET types and their codes, in the order of the specification.
var errorTypes = map[uint16]struct {
	prefix string
	codes  []string
}{
	0: {"OFPHFC_", []string{"INCOMPATIBLE", "EPERM"}},
	1: {"OFPBRC_", []string{"BAD_VERSION", "BAD_TYPE", "BAD_STAT", "BAD_VENDOR", "BAD_SUBTYPE", "EPERM", "BAD_LEN", "BUFFER_EMPTY",
		"BUFFER_UNKNOWN", "BAD_TABLE_ID", "IS_SLAVE", "BAD_PORT", "BAD_PACKET", "MULTIPART_BUFFER_OVERFLOW",
		"MULTIPART_REQUEST_TIMEOUT", "MULTIPART_REPLY_TIMEOUT", "MULTIPART_BAD_SCHED", "PIPELINE_FIELDS_ONLY", "UNKNOWN"}},
	2: {"OFPBAC_", []string{"BAD_TYPE", "BAD_LEN", "BAD_VENDOR", "BAD_VENDOR_TYPE", "BAD_OUT_PORT", "BAD_ARGUMENT", "EPERM",
		"TOO_MANY", "BAD_QUEUE", "BAD_OUT_GROUP", "MATCH_INCONSISTENT", "UNSUPPORTED_ORDER", "BAD_TAG", "BAD_SET_TYPE", "BAD_SET_LEN",
		"BAD_SET_ARGUMENT", "BAD_SET_MASK", "BAD_METER"}},
	3: {"OFPBIC_", []string{"UNKNOWN_INST", "UNSUP_INST", "BAD_TABLE_ID", "UNSUP_METADATA", "UNSUP_METADATA_MASK",
		"BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_LEN", "EPERM", "DUP_INST"}},
	4: {"OFPBMC_", []string{"BAD_TYPE", "BAD_LEN", "BAD_TAG", "BAD_DL_ADDR_MASK", "BAD_NW_ADDR_MASK", "BAD_WILDCARDS", "BAD_FIELD",
		"BAD_VALUE", "BAD_MASK", "BAD_PREREQ", "DUP_FIELD", "EPERM"}},
	5: {"OFPFMFC_", []string{"UNKNOWN", "TABLE_FULL", "BAD_TABLE_ID", "OVERLAP", "EPERM", "BAD_TIMEOUT", "BAD_COMMAND", "BAD_FLAGS",
		"CANT_SYNC", "BAD_PRIORITY", "IS_SYNC"}},
	6: {"OFPGMFC_", []string{"GROUP_EXISTS", "INVALID_GROUP", "WEIGHT_UNSUPPORTED", "OUT_OF_GROUPS", "OUT_OF_BUCKETS",
		"CHAINING_UNSUPPORTED", "WATCH_UNSUPPORTED", "LOOP", "UNKNOWN_GROUP", "CHAINED_GROUP", "BAD_TYPE", "BAD_COMMAND", "BAD_BUCKET",
		"BAD_WATCH", "EPERM", "UNKNOWN_BUCKET", "BUCKET_EXISTS"}},
	7:  {"OFPPMFC_", []string{"BAD_PORT", "BAD_HW_ADDR", "BAD_CONFIG", "BAD_ADVERTISE", "EPERM"}},
	8:  {"OFPTMFC_", []string{"BAD_TABLE", "BAD_CONFIG", "EPERM"}},
	9:  {"OFPQOFC_", []string{"BAD_PORT", "BAD_QUEUE", "EPERM"}},
	10: {"OFPSCFC_", []string{"BAD_FLAGS", "BAD_LEN", "EPERM"}},
	11: {"OFPRRFC_", []string{"STALE", "UNSUP", "BAD_ROLE"}},
	12: {"OFPMMFC_", []string{"UNKNOWN", "METER_EXISTS", "INVALID_METER", "UNKNOWN_METER", "BAD_COMMAND", "BAD_FLAGS", "BAD_RATE",
		"BAD_BURST", "BAD_BAND", "BAD_BAND_VALUE", "OUT_OF_METERS", "OUT_OF_BANDS"}},
	13: {"OFPTFFC_", []string{"BAD_TABLE", "BAD_METADATA", "BAD_TYPE", "BAD_LEN", "BAD_ARGUMENT", "EPERM"}},
	14: {"OFPBPC_", []string{"BAD_TYPE", "BAD_LEN", "BAD_VALUE", "TOO_MANY", "DUP_TYPE", "BAD_EXPERIMENTER", "BAD_EXP_TYPE",
		"BAD_EXP_VALUE", "EPERM"}},
	15: {"OFPACFC_", []string{"INVALID", "UNSUPPORTED", "EPERM"}},
	16: {"OFPMOFC_", []string{"UNKNOWN", "MONITOR_EXISTS", "INVALID_MONITOR", "UNKNOWN_MONITOR", "BAD_COMMAND", "BAD_FLAGS",
		"BAD_TABLE_ID", "BAD_OUT"}},
	17: {"OFPBFC_", []string{"UNKNOWN", "EPERM", "BAD_ID", "BUNDLE_EXIST", "BUNDLE_CLOSED", "OUT_OF_BUNDLES", "BAD_TYPE", "BAD_FLAGS",
		"MSG_BAD_LEN", "MSG_BAD_XID", "MSG_UNSUP", "MSG_CONFLICT", "MSG_TOO_MANY", "MSG_FAILED", "TIMEOUT", "BUNDLE_IN_PROGRESS"}},
}

func errorName(typ, code uint16) string {
	t, ok := errorTypes[typ]
	if !ok {
		return "error"
	}
	if int(code) < len(t.codes) {
		return t.prefix + t.codes[code]
	}
	return t.prefix + "?"
}
