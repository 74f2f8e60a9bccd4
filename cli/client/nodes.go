package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// call is a request that any node of the hub may get.
type call struct {
	method string
	// target returns the URL below a node's base URL.
	target func(base string) string
	header map[string]string
	body   []byte
	form   func(base string) []byte // instead of body, if it depends on the node
	// again allows the call to reach another node although one may already have acted on it: it has the same effect twice as once.
	// Without it, another node is tried only if the request was certainly not sent.
	again bool
	via   *http.Client // nil: the usual one
	bare  bool         // no credentials are sent
}

// below returns the target of a path.
func below(path string) func(string) string { return func(base string) string { return base + path } }

// exchange sends a call to the node that answered last, and as far as that is safe to the others in turn, until one answers with a
// status below 500. The caller closes the response body. It turns every status other than 2xx into an error with its exit code.
func (c *Client) exchange(ctx context.Context, k call) (*http.Response, error) {
	first := int(c.at.Load())
	var failed error
	for i := range c.bases {
		n := (first + i) % len(c.bases)
		resp, err := c.once(ctx, c.bases[n], k)
		if err == nil {
			c.at.Store(int64(n))
			return resp, nil
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case exit.CodeOf(err) != exit.Unreachable:
			c.at.Store(int64(n)) // it answers
			return nil, err
		case failed == nil:
			failed = err
		default:
			failed = fmt.Errorf("%w; %w", failed, err)
		}
		if !k.again && !unsent(err) {
			break
		}
	}
	return nil, failed
}

// once sends a call to one node. It turns every status other than 2xx into an error.
func (c *Client) once(ctx context.Context, base string, k call) (*http.Response, error) {
	resp, err := c.transmit(ctx, base, k)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblemBytes)) // a part of the explanation is better than none
		err := refusal(resp, body)
		if len(c.bases) > 1 && resp.StatusCode >= 500 {
			err = exit.With(exit.Unreachable, fmt.Errorf("%s: %w", base, err))
		}
		return nil, err
	}
	return resp, nil
}

// transmit sends a call to one node and returns its response, whatever its status.
func (c *Client) transmit(ctx context.Context, base string, k call) (*http.Response, error) {
	if k.form != nil {
		k.body = k.form(base)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, k.target(base), bytes.NewReader(k.body))
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	for name, value := range k.header {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "quorumhub-cli")
	token := c.token
	if token == "" && c.login != nil && !k.bare {
		if token, err = c.login(ctx); err != nil {
			return nil, err
		}
	}
	if token != "" && !k.bare {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	via := k.via
	if via == nil {
		via = c.http
	}
	resp, err := via.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, exit.With(exit.Unreachable, fmt.Errorf("hub at %s is unreachable: %w", base, err))
	}
	return resp, nil
}

// maxProblemBytes bounds what is read of a refusal. A registry may have many mistakes.
const maxProblemBytes = 64 << 10

// unsent reports whether an error means that no byte of the request reached a node.
func unsent(err error) bool {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &untrusted)
}

// Nodes returns how many nodes may be asked.
func (c *Client) Nodes() int { return len(c.bases) }

// base returns the base URL of the node that answered last, without a trailing slash.
func (c *Client) base() string { return c.bases[c.at.Load()] }

// topicAt returns a topic's URL below base if it is below one of the hub's base URLs; other URLs stay as they are.
func (c *Client) topicAt(base, topicURL string) string {
	for _, b := range c.bases {
		if name, ok := strings.CutPrefix(topicURL, b+topicsPath); ok {
			return base + topicsPath + name
		}
	}
	return topicURL
}

// TopicURLs returns the URLs that a topic has at the hub's nodes, given its URL at one of them.
func (c *Client) TopicURLs(topicURL string) []string {
	out := []string{topicURL}
	for _, b := range c.bases {
		if at := c.topicAt(b, topicURL); at != topicURL {
			out = append(out, at)
		}
	}
	return out
}

// refusal is the error for a status other than 2xx.
func refusal(resp *http.Response, body []byte) error {
	text := refusalText(resp, body)
	if resp.StatusCode >= 500 {
		if after := resp.Header.Get("Retry-After"); after != "" {
			text += fmt.Sprintf(" (retry in %s s)", terminal.Printable(after))
		}
		return exit.With(exit.Unreachable, fmt.Errorf("%w: %d %s", ErrCannotServe, resp.StatusCode, text))
	}
	return exit.With(exit.Refused, &refusedError{resp.StatusCode, "the hub refused: " + strconv.Itoa(resp.StatusCode) + " " + text + places(body)})
}

// refusedError is a status of 4xx.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string { return e.text }

// NotFound reports whether an error is a status of 404.
func NotFound(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.status == http.StatusNotFound
}

// places returns the mistakes that a problem lists, one line each, unless the only one is told already.
func places(body []byte) string {
	var problem struct {
		Errors []struct {
			Line, Column          int
			Path, Pointer, Detail string
		}
	}
	if json.Unmarshal(body, &problem) != nil || len(problem.Errors) < 2 {
		return ""
	}
	var b strings.Builder
	for _, e := range problem.Errors {
		b.WriteByte('\n')
		if e.Line > 0 {
			fmt.Fprintf(&b, "%d:%d: ", e.Line, e.Column)
		}
		if at := e.Path + e.Pointer; at != "" {
			b.WriteString(terminal.OneLine(at) + ": ")
		}
		b.WriteString(terminal.OneLine(e.Detail))
	}
	return b.String()
}
