package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
)

// maxAnswer bounds what a client reads, in bytes.
const maxAnswer = 64 << 20

// Client asks the agent of one state directory.
type Client struct{ http *http.Client }

// NewClient makes a client for the agent whose state directory is stateDir.  Nothing is dialled yet.
func NewClient(stateDir string) *Client {
	path := filepath.Join(stateDir, SocketName)
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is everything the agent knows.
func (c *Client) Status(ctx context.Context) (Report, error) {
	var r Report
	return r, c.get(ctx, "/status", &r)
}

// Port is the state of one port now.  ErrNotFound: the agent has no record of it.
func (c *Client) Port(ctx context.Context, id string) (Record, error) {
	var r Record
	return r, c.get(ctx, "/ports/"+url.PathEscape(id), &r)
}

// WaitPort returns when the port's wanted revision is in the dataplane or has failed, or when ctx ends.  It waits for the record, too.
func (c *Client) WaitPort(ctx context.Context, id string) (Record, error) {
	var r Record
	return r, c.get(ctx, "/ports/"+url.PathEscape(id)+"?wait=1", &r)
}

// Cookie says where a flow comes from.
func (c *Client) Cookie(ctx context.Context, cookie uint64) (Cookie, error) {
	var r Cookie
	return r, c.get(ctx, fmt.Sprintf("/cookie/0x%x", cookie), &r)
}

// Drops counts what the node's br-int has dropped.
func (c *Client) Drops(ctx context.Context) (Drops, error) {
	var d Drops
	err := c.get(ctx, "/drops", &d)
	return d, err
}

// Reload has the agent read its configuration file again.  An error says why nothing was changed.
func (c *Client) Reload(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/reload", nil)
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		if err := json.Unmarshal(body, into); err != nil {
			return fmt.Errorf("read agent's answer: %w", err)
		}
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("ask agent for %s: %w", path, ErrNotFound)
	default:
		return fmt.Errorf("ask agent for %s: %s", path, strings.TrimSpace(string(body)))
	}
}
