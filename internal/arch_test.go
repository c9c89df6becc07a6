// Package internal_test holds the checks that walk the whole tree: who may import whom, and that every package says what it is.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "baryon/"

// room is one line of the layout: what a package is for and which of our packages it may import.  "…/…" as an entry's end allows
// everything below it.  The standard library and third-party modules are free unless std says otherwise.
type room struct {
	pkg     string
	imports []string
	std     bool // only the standard library besides imports
	why     string
}

var dataplane = []string{"internal/testkit", "internal/dataplane/...", "internal/delta", "internal/reconcile", "internal/openflow", "internal/names"}

// rooms is the layout.  A package that is not in it fails the test: a new room needs a line and a reason.
var rooms = []room{
	{"internal/resource", nil, true, "the definition kit knows no Neutron"},
	{"internal/names", nil, false, "formulas only"},
	{"internal/model", []string{"internal/resource"}, false, "rows and definitions"},
	{"internal/store", []string{"internal/model", "internal/resource"}, false, "typed tables over etcd know no rules"},
	{"internal/store/storetest", []string{"internal/store", "internal/resource", "internal/model"}, false, "a store for tests"},
	{"internal/identity", []string{"internal/resource", "internal/store", "internal/model"}, false, "who is calling"},
	{"internal/identity/v3", []string{"internal/identity", "internal/resource", "internal/store"}, false, "HTTP of the built-in identity"},
	{"internal/neutron/...", []string{"internal/neutron/...", "internal/model", "internal/resource", "internal/store", "internal/identity", "internal/nodestate", "internal/names"}, false, "what the API means; no HTTP"},
	{"internal/api", []string{"internal/resource", "internal/model", "internal/neutron", "internal/identity", "internal/store", "internal/telemetry"}, false, "HTTP only"},
	{"internal/nodestate", nil, true, "the boundary type: control and node meet only here"},
	{"internal/compile", []string{"internal/model", "internal/resource", "internal/store", "internal/nodestate"}, false, "pure: read model to records"},
	{"internal/pki", []string{"internal/store", "internal/resource", "internal/model"}, false, "the certificate authority"},
	{"internal/southbound", []string{"internal/nodestate", "internal/compile", "internal/pki", "internal/store", "internal/resource", "internal/model", "proto/..."}, false, "the only package that sees proto"},
	{"internal/telemetry", nil, false, "logs, metrics, health"},
	{"internal/server", []string{"internal/api", "internal/neutron/...", "internal/identity/...", "internal/store", "internal/model", "internal/resource", "internal/compile", "internal/southbound", "internal/pki", "internal/telemetry", "internal/nodestate"}, false, "composition root of the control plane"},
	{"internal/delta", nil, true, "wanted and actual, generic"},
	{"internal/reconcile", []string{"internal/delta"}, true, "the loop"},
	{"internal/openflow", nil, true, "fit to stand alone"},
	{"internal/openflow/...", []string{"internal/openflow/..."}, true, "fit to stand alone"},
	{"internal/dataplane/...", dataplane, false, "drivers know neither records nor rows"},
	{"internal/pipeline", []string{"internal/openflow", "internal/names"}, false, "our tables as declarations"},
	{"internal/agent/...", append([]string{"internal/agent/...", "internal/nodestate", "internal/pipeline"}, dataplane...), false, "the node: records to driver terms"},
	{"internal/bridgenic", []string{"internal/names", "internal/dataplane/ovsdb", "internal/dataplane/ovsdb/ovstest", "internal/dataplane/rtnl"}, false, "a NIC that the host lives on, into a bridge and back"},
	{"internal/plug", []string{"internal/names", "internal/nodestate"}, false, "attaching machines"},
	{"internal/lab", []string{"internal/nodestate", "internal/dataplane/ovsdb"}, false, "several nodes on one host, driven from outside as a user would"},
	{"internal/testkit/...", nil, false, "what tests share"},
	{"proto/...", nil, false, "generated"},
}

// roots may import everything: they put the parts together.
var roots = []string{"cmd/baryon", "test/..."}

// managers never import each other: what two of them need belongs into nodestate, pipeline or a driver.
var managers = []string{"internal/agent/l2", "internal/agent/firewall", "internal/agent/dhcp", "internal/agent/metadata"}

func matches(pattern, pkg string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pattern == pkg
}

func roomOf(pkg string) *room {
	for i := range rooms {
		if matches(rooms[i].pkg, pkg) {
			return &rooms[i]
		}
	}
	return nil
}

type parsed struct {
	dir  string
	file *ast.File
	test bool
}

func tree(t *testing.T) []parsed {
	t.Helper()
	var files []parsed
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(p))
		files = append(files, parsed{filepath.ToSlash(dir), f, strings.HasSuffix(name, "_test.go")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("the walk saw only %d files: it does not walk the tree", len(files))
	}
	return files
}

func TestImports(t *testing.T) {
	for _, p := range tree(t) {
		if p.test || slices.ContainsFunc(roots, func(r string) bool { return matches(r, p.dir) }) || p.dir == "internal" {
			continue
		}
		r := roomOf(p.dir)
		if r == nil {
			t.Errorf("%s is not in the layout: give it a line in rooms, with its reason, and one in ARCHITECTURE.md", p.dir)
			continue
		}
		for _, imp := range p.file.Imports {
			dst, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			ours, isOurs := strings.CutPrefix(dst, module)
			switch {
			case isOurs && slices.Contains(managers, p.dir) && slices.Contains(managers, ours):
				t.Errorf("%s imports %s: managers never import each other", p.dir, ours)
			case isOurs && !slices.ContainsFunc(r.imports, func(m string) bool { return matches(m, ours) }) && !matches(r.pkg, ours):
				t.Errorf("%s imports %s, which it may not (%s)", p.dir, ours, r.why)
			case !isOurs && r.std && strings.Contains(strings.SplitN(dst, "/", 2)[0], "."):
				t.Errorf("%s imports %s, but only the standard library is allowed (%s)", p.dir, dst, r.why)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	has := map[string]bool{}
	for _, p := range tree(t) {
		if p.test {
			continue
		}
		has[p.dir] = has[p.dir] || p.file.Doc != nil && len(p.file.Doc.Text()) > 20
	}
	var dirs []string
	for d, ok := range has {
		if !ok && !strings.HasPrefix(d, "proto/") {
			dirs = append(dirs, d)
		}
	}
	sort.Strings(dirs)
	if len(dirs) > 0 {
		t.Errorf("no package comment in: %s", path.Join(strings.Join(dirs, ", ")))
	}
}
