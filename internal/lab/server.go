package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/agents"
)

// ServiceServer is the name of the server among the services of its box.
const ServiceServer = "server"

func (l *Lab) serverBox() *box {
	return &box{name: "server", dir: filepath.Join(l.state.Dir, "server"), pid: l.state.ServerPID}
}

func (l *Lab) serverData() string { return filepath.Join(l.state.Dir, "server", "data") }

// CloudsFile is the clouds.yaml that the server wrote; the cloud's name in it is "baryon".
func (l *Lab) CloudsFile() string { return filepath.Join(l.serverData(), "clouds.yaml") }

// OpenRC is the shell file that the server wrote for the openstack command.
func (l *Lab) OpenRC() string { return filepath.Join(l.serverData(), "openrc") }

// StartServer starts the server and waits until it is ready.
func (l *Lab) StartServer(ctx context.Context) error {
	if l.state.ServerPID == 0 {
		b, err := newBox(ctx, l.state.Exe, "server", filepath.Join(l.state.Dir, "server"), false, nil)
		if err != nil {
			return err
		}
		l.state.ServerPID = b.pid
		if err := l.save(); err != nil {
			return err
		}
	}
	b := l.serverBox()
	argv := []string{
		l.state.Exe, "server", "--data-dir", l.serverData(),
		"--api-listen", l.state.APIListen, "--identity-listen", l.state.IDListen,
		"--southbound-listen", fmt.Sprintf("%s:%d", mgmtServer, southboundPort), "--southbound-netns", l.switchNetns(),
	}
	err := b.start(ctx, Service{
		Name: ServiceServer, Argv: append(argv, l.state.ServerFlags...), Log: filepath.Join(b.dir, "log", "server.log"),
	})
	if err != nil {
		return err
	}
	return l.waitServer(ctx)
}

// StopServer ends the server with the signal.
func (l *Lab) StopServer(ctx context.Context, sig syscall.Signal) error {
	return l.serverBox().stop(ctx, ServiceServer, sig)
}

func (l *Lab) waitServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.state.APIListen+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body) //nolint:errcheck // only the status counts
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		list, serr := l.serverBox().services(ctx)
		for _, s := range list {
			if serr == nil && s.Name == ServiceServer && !s.Running {
				return fmt.Errorf("the server ended: %s\n%s", s.Exit, tail(filepath.Join(l.state.Dir, "server", "log", "server.log"), 15))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w (last: %v)", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// API makes a client of the networking API with the administrator's credentials.
func (l *Lab) API(ctx context.Context) (*gophercloud.ServiceClient, error) {
	p, eo, err := l.provider(ctx)
	if err != nil {
		return nil, err
	}
	return openstack.NewNetworkV2(p, eo)
}

// Identity makes a client of the identity API with the administrator's credentials.
func (l *Lab) Identity(ctx context.Context) (*gophercloud.ServiceClient, error) {
	p, eo, err := l.provider(ctx)
	if err != nil {
		return nil, err
	}
	return openstack.NewIdentityV3(p, eo)
}

func (l *Lab) provider(ctx context.Context) (*gophercloud.ProviderClient, gophercloud.EndpointOpts, error) {
	ao, eo, tls, err := clouds.Parse(clouds.WithCloudName("baryon"), clouds.WithLocations(l.CloudsFile()))
	if err != nil {
		return nil, eo, fmt.Errorf("read %s: %w", l.CloudsFile(), err)
	}
	ao.AllowReauth = true
	p, err := config.NewProviderClient(ctx, ao, config.WithTLSConfig(tls))
	if err != nil {
		return nil, eo, fmt.Errorf("log in: %w", err)
	}
	return p, eo, nil
}

// WaitAgents waits until the API shows every node's agents alive.
func (l *Lab) WaitAgents(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	api, err := l.API(ctx)
	if err != nil {
		return err
	}
	for {
		missing, err := l.missingAgents(ctx, api)
		if err == nil && len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			var logs strings.Builder
			for _, m := range missing {
				fmt.Fprintf(&logs, "\n%s:\n%s", m, tail(filepath.Join(l.LogDir(m), "agent.log"), 8))
			}
			return fmt.Errorf("wait for the agents of %v: %w (last: %v)%s", missing, ctx.Err(), err, logs.String())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (l *Lab) missingAgents(ctx context.Context, api *gophercloud.ServiceClient) ([]string, error) {
	pages, err := agents.List(api, agents.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	list, err := agents.ExtractAgents(pages)
	if err != nil {
		return nil, err
	}
	alive := map[string]bool{}
	for _, a := range list {
		if a.Alive {
			alive[a.Host] = true
		}
	}
	var missing []string
	for _, n := range l.state.Nodes {
		if !alive[n.Name] {
			missing = append(missing, n.Name)
		}
	}
	return missing, nil
}

// tail is the last lines of a file, for error messages.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func join(list []string) string { return strings.Join(list, ",") }
