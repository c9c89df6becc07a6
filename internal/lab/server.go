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

func (l *Lab) serverBox(s *serverState) *box {
	return &box{name: s.Name, dir: filepath.Join(l.state.Dir, s.Name), pid: s.PID}
}

func (l *Lab) serverData(s *serverState) string { return filepath.Join(l.state.Dir, s.Name, "data") }

// CloudsFile is the clouds.yaml that the first server wrote; the cloud's name in it is "baryon".
func (l *Lab) CloudsFile() string {
	return filepath.Join(l.serverData(l.state.Servers[0]), "clouds.yaml")
}

// OpenRC is the shell file that the first server wrote for the openstack command.
func (l *Lab) OpenRC() string { return filepath.Join(l.serverData(l.state.Servers[0]), "openrc") }

// ServerURL is the base of the i-th server's networking API.
func (l *Lab) ServerURL(i int) string { return "http://" + l.state.Servers[i].API }

// ServerLog is the i-th server's log file.
func (l *Lab) ServerLog(i int) string {
	return filepath.Join(l.state.Dir, l.state.Servers[i].Name, "log", "server.log")
}

// StartServer starts the i-th server and waits until it is ready.
func (l *Lab) StartServer(ctx context.Context, i int) error {
	s := l.state.Servers[i]
	if s.PID == 0 {
		b, err := newBox(ctx, l.state.Exe, s.Name, filepath.Join(l.state.Dir, s.Name), false, nil)
		if err != nil {
			return err
		}
		s.PID = b.pid
		if err := l.save(); err != nil {
			return err
		}
	}
	argv := []string{
		l.state.Exe, "server", "--data-dir", l.serverData(s), "--api-listen", s.API, "--identity-listen", s.Identity,
		"--southbound-listen", fmt.Sprintf("%s:%d", s.MgmtIP, southboundPort), "--southbound-netns", l.switchNetns(),
	}
	err := l.serverBox(s).start(ctx, Service{Name: ServiceServer, Argv: append(argv, l.state.ServerFlags...), Log: l.ServerLog(i)})
	if err != nil {
		return err
	}
	return l.waitServer(ctx, i)
}

// StopServer ends the i-th server with the signal.
func (l *Lab) StopServer(ctx context.Context, i int, sig syscall.Signal) error {
	return l.serverBox(l.state.Servers[i]).stop(ctx, ServiceServer, sig)
}

func (l *Lab) waitServer(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.ServerURL(i)+"/readyz", nil)
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
		list, serr := l.serverBox(l.state.Servers[i]).services(ctx)
		for _, s := range list {
			if serr == nil && s.Name == ServiceServer && !s.Running {
				return fmt.Errorf("the server ended: %s\n%s", s.Exit, tail(l.ServerLog(i), 15))
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
