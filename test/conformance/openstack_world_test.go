package conformance_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"baryon/internal/nodestate"
	"baryon/internal/southbound"
	"baryon/internal/testkit"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// cloud is a real `baryon server` on loopback ports with a data directory of its own.
type cloud struct {
	exe, dir             string
	api, identity, south string
}

// startCloud builds the program, unless BARYON_BIN names it, and starts a server that is killed when the test ends.
func startCloud(t *testing.T, flags ...string) *cloud {
	t.Helper()
	testkit.NeedTool(t, "openstack")
	c := &cloud{exe: os.Getenv("BARYON_BIN"), dir: t.TempDir(), api: freeAddress(t), identity: freeAddress(t), south: freeAddress(t)}
	if c.exe == "" {
		c.exe = filepath.Join(c.dir, "baryon")
		if out, err := exec.Command("go", "build", "-o", c.exe, "baryon/cmd/baryon").CombinedOutput(); err != nil {
			t.Fatalf("build baryon: %v: %s", err, out)
		}
	}
	cmd := exec.Command(c.exe, append([]string{
		"server", "--identity", "builtin", "--data-dir", c.data(), "--log-level", "warn",
		"--api-listen", c.api, "--identity-listen", c.identity, "--southbound-listen", c.south,
	}, flags...)...)
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-exited
			t.Error("the server did not stop by itself")
		}
		if t.Failed() {
			t.Logf("server: %s", log)
		}
	})
	await(t, "the server", func() bool {
		select {
		case <-exited:
			t.Fatalf("the server ended: %s", log)
		default:
		}
		resp, err := http.Get("http://" + c.api + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return c
}

func (c *cloud) data() string { return filepath.Join(c.dir, "data") }

// await polls until done.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only the number is wanted
	return l.Addr().String()
}

// node enrols a node and keeps it connected until the test ends, without a switch: it takes what it gets and reports nothing.
func (c *cloud) node(t *testing.T, host, ip, zone string) {
	t.Helper()
	token, err := exec.Command(c.exe, "node", "token", "--data-dir", c.data(), "--host", host).Output()
	if err != nil {
		t.Fatalf("node token: %v", err)
	}
	dir := t.TempDir()
	if _, err := southbound.Enrol(t.Context(), []string{c.south}, dir, host, strings.TrimSpace(string(token))); err != nil {
		t.Fatal(err)
	}
	client, err := southbound.NewClient(southbound.ClientConfig{Addresses: []string{c.south}, StateDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	client.SetInfo(nodestate.NodeInfo{
		Host: host, Roles: []string{"compute", "network"}, TunnelIP: netip.MustParseAddr(ip), TunnelTypes: []string{"vxlan", "gre"},
		DatapathType: "netdev", Version: "test", AvailabilityZone: zone,
	})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-client.Updates():
			case <-ctx.Done():
				return
			}
		}
	})
	wg.Go(func() { _ = client.Run(ctx) }) // it ends with ctx
	t.Cleanup(func() { stop(); wg.Wait() })
}

// environ is the environment of a person who has nothing but the clouds.yaml that the first start wrote.
func (c *cloud) environ(t *testing.T) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "COLUMNS=200",
		"OS_CLIENT_CONFIG_FILE=" + c.data() + "/clouds.yaml", "OS_CLOUD=baryon"}
}

// osc types commands for the openstack client.  Starting Python for each takes longer than the commands do, so one interpreter calls
// the command's own entry point again and again, once per line.
type osc struct {
	t     *testing.T
	lines io.Writer
	said  *bufio.Reader
}

// driver is that loop.  A line is split as a shell does; the answer is one line of JSON: exit status, stdout, stderr.
const driver = `
import contextlib, io, json, shlex, sys
from openstackclient import shell
sys.argv[0] = 'openstack'
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(shlex.split(line))
        except SystemExit as e:
            code = e.code
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]), flush=True)
`

// osc is the administrator's client.
func (c *cloud) osc(t *testing.T) *osc {
	t.Helper()
	return c.oscWith(t, c.environ(t))
}

func (c *cloud) oscWith(t *testing.T, env []string) *osc {
	t.Helper()
	cmd := exec.Command(interpreter(t), "-c", driver)
	cmd.Env = env
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var crash bytes.Buffer
	cmd.Stderr = &crash
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("client: %v: %s", err, &crash)
		}
	})
	return &osc{t: t, lines: in, said: bufio.NewReader(out)}
}

// interpreter is the Python that the openstack command names in its first line.
func interpreter(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openstack")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "#!") {
		t.Fatalf("%s starts with %q: %v", path, line, err)
	}
	return strings.Fields(line[2:])[0]
}

// login is the client of somebody else.
func (c *cloud) login(t *testing.T, user, password, project string) *osc {
	t.Helper()
	return c.oscWith(t, append(c.environ(t)[:4], "OS_AUTH_URL=http://"+c.identity+"/v3", "OS_IDENTITY_API_VERSION=3",
		"OS_USERNAME="+user, "OS_PASSWORD="+password, "OS_PROJECT_NAME="+project, "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"))
}

type answer struct {
	code     int
	out, err string
}

// try types a command.
func (o *osc) try(format string, a ...any) answer {
	o.t.Helper()
	line := fmt.Sprintf(format, a...)
	if _, err := fmt.Fprintln(o.lines, line); err != nil {
		o.t.Fatalf("type %q: %v", line, err)
	}
	text, err := o.said.ReadBytes('\n')
	if err != nil {
		o.t.Fatalf("after %q the client says %q: %v", line, text, err)
	}
	var got answer
	if err := json.Unmarshal(text, &[]any{&got.code, &got.out, &got.err}); err != nil {
		o.t.Fatalf("after %q the client says %q: %v", line, text, err)
	}
	return got
}

// do types a command that must succeed, and returns what it prints.
func (o *osc) do(format string, a ...any) string {
	o.t.Helper()
	got := o.try(format, a...)
	if got.code != 0 {
		o.t.Fatalf("openstack "+format+": exit status %d: %s", append(a, got.code, got.err)...)
	}
	return strings.TrimSpace(got.out)
}

// row is one object as the client prints it.
type row map[string]any

// one types a command that shows one object.
func (o *osc) one(format string, a ...any) row {
	o.t.Helper()
	return decode[row](o, format, a)
}

// list types a command that shows a list.
func (o *osc) list(format string, a ...any) []row {
	o.t.Helper()
	return decode[[]row](o, format, a)
}

func decode[T any](o *osc, format string, a []any) (v T) {
	o.t.Helper()
	out := o.do(format+" -f json", a...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		o.t.Fatalf("openstack "+format+": %v in %s", append(a, err, out)...)
	}
	return v
}

// refused types a command that must fail, and checks what the person is told.
func (o *osc) refused(want, format string, a ...any) {
	o.t.Helper()
	switch got := o.try(format, a...); {
	case got.code == 0:
		o.t.Errorf("openstack "+format+" succeeds: %s", append(a, got.out)...)
	case !strings.Contains(got.err, want):
		o.t.Errorf("openstack "+format+" says %q, want %q", append(a, got.err, want)...)
	}
}

// column is one column of a list, joined by spaces; what has an empty text there, as the DHCP service's port has no name, is left out.
func (o *osc) column(name, format string, a ...any) string {
	o.t.Helper()
	var out []string
	for _, r := range o.list(format, a...) {
		v, ok := r[name]
		if !ok {
			o.t.Errorf("openstack "+format+" has no column %s: %v", append(a, name, r)...)
		}
		if s := text(v); s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// want checks fields of an object: pairs of name and value, as text or as JSON.
func (o *osc) want(got row, pairs ...string) {
	o.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		v, ok := got[pairs[i]]
		if s := text(v); !ok || s != pairs[i+1] {
			o.t.Errorf("%s is %s, want %s", pairs[i], s, pairs[i+1])
		}
	}
}

// equal checks a value.
func (o *osc) equal(what, got, want string) {
	o.t.Helper()
	if got != want {
		o.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// text is a JSON value as text: strings bare, the rest compact.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// id is the object's.
func (r row) id() string { return text(r["id"]) }

// run starts the openstack command itself, with text on its standard input.
func (c *cloud) run(t *testing.T, stdin string, args ...string) answer {
	t.Helper()
	return c.exec(t, c.environ(t), stdin, "openstack", args...)
}

func (c *cloud) exec(t *testing.T, env []string, stdin, name string, args ...string) answer {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), strings.TrimSpace(out.String()), strings.TrimSpace(errs.String())}
}
