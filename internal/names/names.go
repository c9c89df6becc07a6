// Package names holds every formula by which Baryon names things on a host: devices, bridges, tunnel ports, namespaces.  The
// names are Neutron's, so that what operators know (and the write-ups they learnt it from) stays true.
//
// Everything here is a pure function of ids and addresses.
package names

import (
	"crypto/sha1" //nolint:gosec // a name's formula, not a defence
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// Bridges and patch ports that every node has.
const (
	BrInt    = "br-int"
	BrTun    = "br-tun"
	PatchTun = "patch-tun" // on br-int
	PatchInt = "patch-int" // on br-tun
)

// maxDevice is the longest device name Linux takes; maxPortDevice the length Neutron cuts port devices to.
const (
	maxDevice     = 15
	maxPortDevice = 14
)

// Devices of a port: the prefix and the first 11 characters of the port's id.

// Tap is the guest's or service's device: "tap1a2b3c4d-5e".
func Tap(portID string) string { return portDevice("tap", portID) }

// Qbr is the Linux bridge of a hybrid port.
func Qbr(portID string) string { return portDevice("qbr", portID) }

// Qvb is the veth end on the Linux bridge of a hybrid port.
func Qvb(portID string) string { return portDevice("qvb", portID) }

// Qvo is the veth end on br-int of a hybrid port.
func Qvo(portID string) string { return portDevice("qvo", portID) }

func portDevice(prefix, id string) string {
	n := prefix + id
	if len(n) > maxPortDevice {
		n = n[:maxPortDevice]
	}
	return n
}

// Trunk ports: a bridge per trunk, and a pair of patch ports between it and br-int for the parent and for each subport, whose names are cut
// to what the kernel takes.

// TrunkPrefix begins the name of every bridge of a trunk.
const TrunkPrefix = "tbr-"

// TrunkBridge is the bridge that a trunk's guest is plugged into: "tbr-" and the first ten characters of the trunk's id.
func TrunkBridge(trunkID string) string { return portDevice(TrunkPrefix, trunkID) }

// TrunkParentInt is the parent's end on br-int.
func TrunkParentInt(portID string) string { return device("tpi-", portID) }

// TrunkParent is the parent's end on the trunk's bridge.
func TrunkParent(portID string) string { return device("tpt-", portID) }

// SubPortInt is a subport's end on br-int.
func SubPortInt(portID string) string { return device("spi-", portID) }

// SubPort is a subport's end on the trunk's bridge.
func SubPort(portID string) string { return device("spt-", portID) }

func device(prefix, id string) string {
	n := prefix + id
	return n[:min(len(n), maxDevice)]
}

// DHCPNamespace is the namespace of a network's DHCP, DNS and metadata service.
func DHCPNamespace(networkID string) string { return "qdhcp-" + networkID }

// TunnelPort names the port on br-tun towards a remote endpoint: "vxlan-c0a8140c".  For IPv6 it is the type and the start of the
// base32 BLAKE2b-160 of the address, cut to 15 characters.
func TunnelPort(typ string, remote netip.Addr) string {
	if remote.Is4() || remote.Is4In6() {
		a := remote.As4()
		return typ + "-" + hex.EncodeToString(a[:])
	}
	h, err := blake2b.New(20, nil)
	if err != nil {
		panic(err) // only for a wrong size or key, both constant here
	}
	h.Write([]byte(remote.String()))
	sum := strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))
	return typ + "-" + sum[:maxDevice-len(typ)-1]
}

// CheckDevice tells what keeps a name from being a device's: it has 1 to 15 characters, no slash, no blank, and is neither "." nor "..".
func CheckDevice(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no device name", name)
	case len(name) > maxDevice:
		return fmt.Errorf("device name %q is longer than %d characters", name, maxDevice)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '/' || c == ':' || c == ',' || c == '=' {
			return fmt.Errorf("device name %q has a character that device names do not have", name)
		}
	}
	return nil
}

// IntPatch and PhyPatch name the patch pair between br-int and a provider bridge; long bridge names are cut and told apart by six
// digits of their SHA-1.
func IntPatch(bridge string) string { return patch("int-", bridge) }

// PhyPatch is the end on the provider bridge.
func PhyPatch(bridge string) string { return patch("phy-", bridge) }

func patch(prefix, bridge string) string {
	if len(prefix)+len(bridge) <= maxDevice {
		return prefix + bridge
	}
	sum := sha1.Sum([]byte(bridge)) //nolint:gosec // see above
	return prefix + bridge[:maxDevice-len(prefix)-6] + hex.EncodeToString(sum[:])[:6]
}

// ChainPrefix begins every iptables chain of the security groups but FilterTop: the first 16 characters of the name of Neutron's agent.
const (
	ChainPrefix = "neutron-openvswi-"
	FilterTop   = "neutron-filter-top"
)

// chainID is how much of a port's id its chains' names have.
const chainID = 10

// PortChain names a port's iptables chain: kind is 'i' (to the port), 'o' (from it) or 's' (its source addresses).
func PortChain(kind byte, portID string) string {
	return ChainPrefix + string(kind) + portID[:min(len(portID), chainID)]
}

// AddressSetPrefix begins every ipset of the security groups.
const AddressSetPrefix = "NIPv"

// maxAddressSet leaves room for a suffix in the 31 characters that ipset takes.
const maxAddressSet = 29

// AddressSet names the ipset with the addresses of one family of a security group's ports, or of an address group.
func AddressSet(ipv6 bool, id string) string {
	n := AddressSetPrefix + "4" + id
	if ipv6 {
		n = AddressSetPrefix + "6" + id
	}
	return n[:min(len(n), maxAddressSet)]
}
