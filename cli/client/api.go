package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"quorumhub/cli/exit"
)

// Call makes a request of the admin API that changes something and returns the JSON of its answer, if there
// is any.
func (c *Client) Call(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	data := []byte(nil)
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("make the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	a, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

// Get gets a path of the admin API.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	a, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

// OpenBackup asks for a backup; the caller reads and closes the body. The client's timeout bounds the wait for the header only.
func (c *Client) OpenBackup(ctx context.Context) (*http.Response, error) {
	c.transport.ResponseHeaderTimeout, c.http.Timeout = c.timeout, 0
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+"/v1/backup", nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	resp, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return nil, refusal(resp, body)
	}
	return resp, nil
}

// Copy copies an answer of any length to w. patience bounds the wait for its beginning and for each part of it.
func (c *Client) Copy(ctx context.Context, path string, patience time.Duration, w io.Writer) error {
	outer := ctx
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	idle := time.AfterFunc(patience, cancel)
	defer idle.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+path, nil)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("User-Agent", "quorumhub-cli")
	client := *c.http
	client.Timeout = 0
	resp, err := client.Do(req)
	switch {
	case outer.Err() != nil:
		return outer.Err()
	case err != nil:
		return exit.With(exit.Unreachable, fmt.Errorf("the hub at %s cannot be reached: %w", c.Base, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what there is of it is told
		return refusal(resp, body)
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
			return exit.With(exit.Timeout, fmt.Errorf("the hub at %s sent nothing for %s; what was printed is not whole", c.Base, patience))
		case err != nil:
			return exit.With(exit.Unreachable, fmt.Errorf("the answer of the hub at %s broke off; what was printed is not whole: %w", c.Base, err))
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
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, fmt.Errorf("make the request: %w", err)
		}
		a, err := c.do(req)
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := json.Unmarshal(a.Body, &page); err != nil {
			return nil, c.Unexpected(path, err)
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		if seen[page.Next] {
			return nil, fmt.Errorf("the pages of %s%s do not end", c.Base, path)
		}
		seen[page.Next] = true
		query.Set("cursor", page.Next)
	}
}

// clusterState is what a node says of its cluster.
type clusterState struct {
	Leader string `json:"leader"`
	Nodes  []struct {
		ID           string `json:"id"`
		Role         string `json:"role"`
		AppliedIndex uint64 `json:"applied_index"`
		StateHash    string `json:"state_hash"`
	} `json:"nodes"`
}

// Cluster asks the node for its cluster.
func (c *Client) Cluster(ctx context.Context) (*clusterState, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+"/v1/cluster", nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	a, err := c.do(req)
	if err != nil {
		return nil, err
	}
	state := new(clusterState)
	if err := json.Unmarshal(a.Body, state); err != nil {
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
}
