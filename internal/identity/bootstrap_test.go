package identity

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"

	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

func bootOptions(dir string) BootstrapOptions {
	return BootstrapOptions{IdentityURL: "http://k:5000", NetworkURL: "http://n:9696", Dir: dir}
}

// filePassword reads the admin's password out of clouds.yaml.
func filePassword(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, cloudsFile))
	must(t, err)
	var c cloudsYAML
	must(t, yaml.Unmarshal(b, &c))
	return c.Clouds[CloudName].Auth["password"]
}

// wantAdmin checks that the password opens the admin's account, on the project and on the system.
func wantAdmin(t testing.TB, st *store.Store, password string) {
	t.Helper()
	b, err := New(context.Background(), st, Options{})
	must(t, err)
	for _, scope := range []*ScopeRef{{Kind: ScopeProject, Name: "admin", Domain: DomainRef{Name: "Default"}}, {Kind: ScopeSystem}} {
		_, s, err := b.Issue(context.Background(), Login{Scope: scope, Password: &PasswordProof{
			User: UserRef{Name: "admin", Domain: DomainRef{Name: "Default"}}, Password: password,
		}})
		if err != nil || !s.IsAdmin() || strings.Join(s.Roles, " ") != "admin manager member reader" {
			t.Fatalf("scope %v: %+v %v", scope.Kind, s, err)
		}
	}
}

func TestBootstrap(t *testing.T) {
	st, dir := storetest.New(t, Tables()...), filepath.Join(t.TempDir(), "etc")
	ctx := context.Background()
	must(t, Bootstrap(ctx, st, bootOptions(dir)))
	password := filePassword(t, dir)
	if len(password) < 20 {
		t.Errorf("random password %q is short", password)
	}
	wantAdmin(t, st, password)
	for _, name := range []string{openrcFile, cloudsFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	rows := func() string {
		r := st.Snapshot()
		return fmt.Sprint(store.Count(r, UserTable, "", ""), store.Count(r, RoleTable, "", ""), store.Count(r, ProjectTable, "", ""),
			store.Count(r, AssignmentTable, "", ""), store.Count(r, CatalogServiceTable, "", ""), store.Count(r, EndpointTable, "", ""))
	}
	if got := rows(); got != "1 5 2 2 2 6" {
		t.Errorf("rows %s", got)
	}
	must(t, Bootstrap(ctx, st, bootOptions(dir)))
	must(t, Bootstrap(ctx, st, bootOptions("")))
	if got := rows(); got != "1 5 2 2 2 6" || filePassword(t, dir) != password {
		t.Errorf("a second start changed something: rows %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+draft)); left != nil {
		t.Errorf("drafts left: %v", left)
	}
	// Recovery, and an operator who has replaced admin.
	_, err := st.Update(ctx, func(tx store.Tx) error {
		u, _ := first(tx, UserTable, byName, pair(DefaultDomainID, "admin"))
		row := *u
		row.Enabled = false
		store.Put(tx, UserTable, &row)
		return nil
	})
	must(t, err)
	o := bootOptions(dir)
	o.Recover, o.AdminPassword = true, "back again"
	must(t, Bootstrap(ctx, st, o))
	wantAdmin(t, st, "back again")
	if filePassword(t, dir) != "back again" {
		t.Error("recovery did not rewrite the files")
	}
	_, err = st.Update(ctx, func(tx store.Tx) error {
		u, _ := first(tx, UserTable, byName, pair(DefaultDomainID, "admin"))
		row := *u
		row.Name = "root"
		store.Put(tx, UserTable, &row)
		return nil
	})
	must(t, err)
	must(t, Bootstrap(ctx, st, bootOptions(dir)))
	if _, ok := first(st.Snapshot(), UserTable, byName, pair(DefaultDomainID, "admin")); ok {
		t.Error("admin came back though root rules")
	}
}

// A start may be cut off between the commit and the files, or before the commit.
func TestBootstrapCutOff(t *testing.T) {
	ctx := context.Background()
	t.Run("after the commit", func(t *testing.T) {
		st, dir := storetest.New(t, Tables()...), t.TempDir()
		must(t, Bootstrap(ctx, st, bootOptions(dir)))
		password := filePassword(t, dir)
		for _, name := range []string{openrcFile, cloudsFile} {
			must(t, os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+draft)))
		}
		must(t, Bootstrap(ctx, st, bootOptions(dir)))
		if filePassword(t, dir) != password {
			t.Error("the password is lost")
		}
	})
	t.Run("before the commit", func(t *testing.T) {
		st, dir := storetest.New(t, Tables()...), t.TempDir()
		must(t, draftFiles(bootOptions(dir), "never committed"))
		must(t, Bootstrap(ctx, st, bootOptions(dir)))
		wantAdmin(t, st, filePassword(t, dir))
	})
	t.Run("foreign drafts", func(t *testing.T) {
		st, dir := storetest.New(t, Tables()...), t.TempDir()
		must(t, Bootstrap(ctx, st, bootOptions("")))
		must(t, os.WriteFile(filepath.Join(dir, cloudsFile+draft), []byte("\t{"), 0o600))
		must(t, Bootstrap(ctx, st, bootOptions(dir)))
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); left != nil {
			t.Errorf("files left: %v", left)
		}
	})
}

// Several servers start on an empty cluster: one admin, and only its maker has files.
func TestBootstrapTogether(t *testing.T) {
	endpoint := storetest.Etcd(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	dirs := make([]string, 3)
	stores := make([]*store.Store, len(dirs))
	for i := range dirs {
		dirs[i], stores[i] = t.TempDir(), storetest.Join(t, endpoint, Tables()...)
	}
	errs := make([]error, len(dirs))
	for i := range dirs {
		wg.Go(func() { errs[i] = Bootstrap(ctx, stores[i], bootOptions(dirs[i])) })
	}
	wg.Wait()
	files := 0
	for i, dir := range dirs {
		must(t, errs[i])
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) == 2 {
			files++
			wantAdmin(t, stores[i], filePassword(t, dir))
		} else if len(left) != 0 {
			t.Errorf("server %d has %v", i, left)
		}
	}
	must(t, stores[0].View(ctx, func(r store.Read) error {
		if n := store.Count(r, UserTable, "", ""); n != 1 || files != 1 {
			t.Errorf("%d admins, %d servers with files", n, files)
		}
		if n := store.Count(r, EndpointTable, "", ""); n != 6 {
			t.Errorf("%d endpoints, want 6", n)
		}
		return nil
	}))
}

func TestBootstrapOptions(t *testing.T) {
	for name, change := range map[string]func(*BootstrapOptions){
		"no identity URL":           func(o *BootstrapOptions) { o.IdentityURL = "" },
		"no network URL":            func(o *BootstrapOptions) { o.NetworkURL = "" },
		"endless password":          func(o *BootstrapOptions) { o.AdminPassword = strings.Repeat("x", MaxPassword+1) },
		"recovery without password": func(o *BootstrapOptions) { o.Recover = true },
	} {
		o := bootOptions("")
		change(&o)
		if err := Bootstrap(context.Background(), nil, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Whatever the password, a shell reads it back from openrc.
func TestShellQuote(t *testing.T) {
	for _, s := range []string{"plain", "it's", `a"b$c\d` + "`e", "", "'", "two\nlines", "-n", "ünï"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q becomes %q (%v)", s, out, err)
		}
	}
}

// TestNoComputeEntry: a catalog without a compute service gets the entry, also an old one; an operator's own service stays alone.
func TestNoComputeEntry(t *testing.T) {
	ctx := context.Background()
	urls := func(st *store.Store) (out []string) {
		r := st.Snapshot()
		for s := range store.Find(r, CatalogServiceTable, "type", "compute") {
			for e := range store.Find(r, EndpointTable, "service", s.ID) {
				out = append(out, s.Name+" "+e.URL)
			}
		}
		return out
	}
	st := storetest.New(t, Tables()...)
	o := bootOptions("")
	must(t, Bootstrap(ctx, st, o))
	if got := urls(st); got != nil {
		t.Errorf("without a URL: %q", got)
	}
	o.NoComputeURL = "http://n:9696/compute/v2.1"
	for range 2 {
		must(t, Bootstrap(ctx, st, o))
		if got := strings.Join(urls(st), ","); got != strings.Repeat(",no-compute http://n:9696/compute/v2.1", 3)[1:] {
			t.Errorf("endpoints %q", got)
		}
	}
	st = storetest.New(t, Tables()...)
	_, err := st.Update(ctx, func(tx store.Tx) error {
		store.Put(tx, CatalogServiceTable, &CatalogService{ID: "n", Type: "compute", Name: "nova", Enabled: true})
		store.Put(tx, EndpointTable, &Endpoint{ID: "e", ServiceID: "n", Interface: "public", URL: "http://nova:8774/v2.1", Enabled: true})
		return nil
	})
	must(t, err)
	must(t, Bootstrap(ctx, st, o))
	if got := strings.Join(urls(st), ","); got != "nova http://nova:8774/v2.1" {
		t.Errorf("beside an operator's own: %q", got)
	}
}
