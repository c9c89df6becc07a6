package metadata

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// node is a file or a directory of the tree that a guest sees.  It is made for one request from one port.
type node struct {
	dir     map[string]*node // nil: a file
	order   []string         // names in the order they are listed; nil: sorted
	label   string           // how the node is listed in its parent: "0=mykey"; "": name, with a slash for a directory
	plain   bool             // list directories without a slash
	kind    string           // content type; "": text/plain
	content func() ([]byte, error)
}

func text(s string) *node { return &node{content: func() ([]byte, error) { return []byte(s), nil }} }

func blob(b []byte) *node {
	return &node{kind: "application/octet-stream", content: func() ([]byte, error) { return b, nil }}
}

// ec2Versions are the dates that EC2 clients try, oldest first, as Nova lists them.
var ec2Versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "latest",
}

// root is the whole tree of a port.
func (t *table) root(p *Port) *node {
	r := &node{dir: map[string]*node{"openstack": t.openstack(p)}, order: ec2Versions, plain: true}
	version := &node{dir: map[string]*node{"meta-data": ec2(p)}}
	if len(p.UserData) > 0 {
		version.dir["user-data"] = blob(p.UserData)
	}
	for _, v := range ec2Versions {
		r.dir[v] = version
	}
	return r
}

// ec2 is EC2's meta-data directory.
func ec2(p *Port) *node {
	d := map[string]*node{
		"ami-id":            text("None"),
		"ami-launch-index":  text("0"),
		"ami-manifest-path": text(""),
		"instance-action":   text("none"),
		"instance-id":       text(p.InstanceID),
		"instance-type":     text("None"),
		"hostname":          text(p.hostname()),
		"local-hostname":    text(p.hostname()),
		"public-hostname":   text(p.hostname()),
		"public-ipv4":       text(""),
		"reservation-id":    text("r-" + short(p.InstanceID)),
		"security-groups":   text(""),
		"mac":               text(fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", p.MAC[0], p.MAC[1], p.MAC[2], p.MAC[3], p.MAC[4], p.MAC[5])),
		"placement":         {dir: map[string]*node{"availability-zone": text(p.Zone)}},
		"local-ipv4":        text(""),
	}
	for _, a := range p.Addresses {
		if a.IP.Is4() {
			d["local-ipv4"] = text(a.IP.String())
			break
		}
	}
	if len(p.PublicKeys) > 0 {
		keys := &node{dir: map[string]*node{}}
		for i, name := range slices.Sorted(maps.Keys(p.PublicKeys)) {
			n := fmt.Sprint(i)
			keys.dir[n] = &node{label: n + "=" + oneLine(name), dir: map[string]*node{"openssh-key": text(p.PublicKeys[name])}}
			keys.order = append(keys.order, n)
		}
		d["public-keys"] = keys
	}
	return &node{dir: d}
}

func short(s string) string {
	s = strings.ReplaceAll(s, "-", "")
	return s[:min(8, len(s))]
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, s)
}

// walk follows a path; repeated and final slashes do not matter, for a file either, as in Nova.
func (n *node) walk(path string) *node {
	for _, part := range strings.Split(path, "/") {
		if part == "" {
			continue
		}
		if n == nil || n.dir == nil {
			return nil
		}
		n = n.dir[part]
	}
	return n
}

// list prints a directory: one name a line, no final newline.
func (n *node) list() string {
	names := n.order
	if names == nil {
		names = slices.Sorted(maps.Keys(n.dir))
	}
	out := make([]string, 0, len(names))
	for _, name := range names {
		switch c := n.dir[name]; {
		case c.label != "":
			out = append(out, c.label)
		case c.dir != nil && !n.plain:
			out = append(out, name+"/")
		default:
			out = append(out, name)
		}
	}
	return strings.Join(out, "\n")
}
