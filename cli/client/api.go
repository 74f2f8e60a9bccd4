package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"quorumhub/cli/exit"
)

// Call sends a request to the admin API and returns the response body. A body other than nil is sent as JSON. The response must be a
// JSON object with the members in want; without any it may also be empty.
func (c *Client) Call(ctx context.Context, method, path string, body any, want ...string) (json.RawMessage, error) {
	return c.CallWith(ctx, method, path, nil, body, want...)
}

// CallWith is Call with further header fields.
func (c *Client) CallWith(ctx context.Context, method, path string, fields map[string]string, body any, want ...string) (json.RawMessage, error) {
	data := []byte(nil)
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("build the request: %w", err)
		}
	}
	header := map[string]string{"Accept": "application/json"}
	maps.Copy(header, fields)
	if body != nil {
		header["Content-Type"] = "application/json"
	}
	a, err := c.do(ctx, call{method: method, target: below(path), header: header, body: data, again: repeatable(method, path)})
	if err != nil {
		return nil, err
	}
	if err := a.proves(want); err != nil {
		return nil, c.Unexpected(strings.SplitN(path, "?", 2)[0], err)
	}
	return a.Body, nil
}

// repeatable reports whether a request to the admin API does the same twice as once, with the same response. To delete something twice
// is an error, and what creates or moves something does it again.
func repeatable(method, path string) bool {
	switch method {
	case http.MethodGet, http.MethodPut:
		return true
	case http.MethodPost:
		return slices.Contains([]string{"pause", "resume", "promote", "demote", "drain", "undrain", "explain", "import", "reencrypt"}, path[strings.LastIndexByte(path, '/')+1:])
	}
	return false
}

// proves returns an error unless a response to a request to the admin API is one of a hub.
func (a *response) proves(want []string) error {
	members := map[string]json.RawMessage{}
	if len(a.Body) > 0 || len(want) > 0 {
		if err := json.Unmarshal(a.Body, &members); err != nil {
			return a.foreign("without a JSON object")
		}
	}
	for _, name := range want {
		if _, ok := members[name]; !ok {
			return a.foreign(fmt.Sprintf("without %q", name))
		}
	}
	if len(want) == 0 && a.Header.Get("X-Correlation-Id") == "" {
		return a.foreign("without X-Correlation-Id")
	}
	return nil
}

// OpenBackup starts a backup; the caller reads and closes the response body. The client's timeout limits the wait for the response
// header only.
func (c *Client) OpenBackup(ctx context.Context) (*http.Response, error) {
	transport := c.transport.Clone()
	transport.ResponseHeaderTimeout = c.http.Timeout
	patient := *c.http
	patient.Transport, patient.Timeout = transport, 0
	resp, err := c.exchange(ctx, call{method: http.MethodGet, target: below("/v1/backup"), again: true, via: &patient})
	if err != nil {
		transport.CloseIdleConnections()
	}
	return resp, err
}

// Copy copies a response of any length, JSON line by line, to w. patience limits the wait for its first byte and for each further read.
func (c *Client) Copy(ctx context.Context, path string, patience time.Duration, w io.Writer) error {
	outer := ctx
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	idle := time.AfterFunc(patience, cancel)
	defer idle.Stop()
	patient := *c.http
	patient.Timeout = 0
	resp, err := c.exchange(ctx, call{method: http.MethodGet, target: below(path), again: true, via: &patient})
	switch {
	case err != nil && outer.Err() != nil:
		return outer.Err()
	case err != nil && ctx.Err() != nil:
		return exit.With(exit.Unreachable, fmt.Errorf("hub at %s is unreachable: no response within %s", c.base(), patience))
	case err != nil:
		return err
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/x-ndjson") {
		return c.Unexpected(strings.SplitN(path, "?", 2)[0], fmt.Errorf("it is %q instead of application/x-ndjson; is this a quorumhub?", kind))
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buf)
		idle.Reset(patience)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return fmt.Errorf("write: %w", werr)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case outer.Err() != nil:
			return outer.Err()
		case err != nil && ctx.Err() != nil:
			return exit.With(exit.Timeout, fmt.Errorf("hub at %s sent nothing for %s; the output is incomplete", c.base(), patience))
		case err != nil:
			return exit.With(exit.Unreachable, fmt.Errorf("response of the hub at %s was cut off; the output is incomplete: %w", c.base(), err))
		}
	}
}

// List fetches all pages of a list of the admin API.
func (c *Client) List(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	query = maps.Clone(query)
	if query == nil {
		query = url.Values{}
	}
	for seen := map[string]bool{}; ; {
		body, err := c.Call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, "items")
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, c.Unexpected(path, err)
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		if seen[page.Next] {
			return nil, c.Unexpected(path, fmt.Errorf("page %q repeats", page.Next))
		}
		seen[page.Next] = true
		query.Set("cursor", page.Next)
	}
}

// ClusterState is a cluster as one of its nodes sees it.
type ClusterState struct {
	Leader string `json:"leader"`
	Nodes  []struct {
		ID           string `json:"id"`
		Role         string `json:"role"`
		AppliedIndex uint64 `json:"applied_index"`
		StateHash    string `json:"state_hash"`
	} `json:"nodes"`
}

// Cluster returns the cluster as this node sees it.
func (c *Client) Cluster(ctx context.Context) (*ClusterState, error) {
	body, err := c.Call(ctx, http.MethodGet, "/v1/cluster", nil, "nodes")
	if err != nil {
		return nil, err
	}
	state := new(ClusterState)
	if err := json.Unmarshal(body, state); err != nil {
		return nil, c.Unexpected("/v1/cluster", err)
	}
	return state, nil
}

// Subscription is a subscription as the admin API lists it.
type Subscription struct {
	ID             string `json:"id"`
	Topic          string `json:"topic"`
	Callback       string `json:"callback"`
	State          string `json:"state"`
	Node           string `json:"node"`
	LeaseExpiresAt string `json:"lease_expires_at"`
	Cursor         uint64 `json:"cursor"`
	Lag            uint64 `json:"lag"`
	Mode           string `json:"mode"`
	Owner          string `json:"owner"`
	PauseReason    string `json:"pause_reason"`
}

// Topic is a topic as the admin API shows it.
type Topic struct {
	Name          string `json:"name"`
	HeadOffset    uint64 `json:"head_offset"`
	FirstOffset   uint64 `json:"first_offset"`
	Subscriptions int    `json:"subscriptions"`
	Retention     *struct {
		MaxAge   string `json:"max_age"`
		MaxBytes *int64 `json:"max_bytes"`
	} `json:"retention"`
	Lifecycle *struct {
		Status       string `json:"status"`
		DeprecatedAt string `json:"deprecated_at"`
		SunsetAt     string `json:"sunset_at"`
		Successor    string `json:"successor"`
	} `json:"lifecycle"`
	Content string `json:"content"` // reference, body, or empty: body only
	Share   *struct {
		Uses    int    `json:"uses"`
		For     string `json:"for"`
		Require string `json:"require"`
	} `json:"share"`
	RequireEncryption bool `json:"require_encryption"`
}
