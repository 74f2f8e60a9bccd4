// Package client calls a hub's HTTP API on behalf of the commands: publishing, subscribing and the admin API. Its errors carry the exit
// code of the failure. It may import exit and terminal.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// DefaultURL is the endpoint of a hub with default settings.
const DefaultURL = "http://127.0.0.1:8080/hub"

// maxResponseBytes limits what is read of one response.
const maxResponseBytes = 32 << 20

// Client talks to one hub. It is safe for concurrent use.
type Client struct {
	base      string // without a trailing slash
	token     string // empty: no credentials
	transport *http.Transport
	http      *http.Client
}

// Options configures a client.
type Options struct {
	// Timeout limits one request, including the response body.
	Timeout time.Duration
	// Token is sent as a bearer token; empty sends no credentials.
	Token string
	// RootCAs verify the hub's certificate; nil uses the system's roots.
	RootCAs *x509.CertPool
}

// New returns a client of a hub, given its endpoint (http://host/hub) or its base URL.
func New(hub string, o Options) (*Client, error) {
	u, err := url.Parse(hub)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, exit.Usagef("--hub: got %q, expected the URL of a hub such as %s", hub, DefaultURL)
	}
	u.RawQuery, u.Fragment = "", ""
	trimmed := strings.TrimRight(u.String(), "/")
	base := strings.TrimSuffix(trimmed, "/hub")
	transport := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}
	if o.RootCAs != nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}
	}
	return &Client{
		base: base, token: o.Token, transport: transport,
		http: &http.Client{
			Timeout: o.Timeout,
			// Following a redirect would turn a POST into a GET, and the hub never sends one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     transport,
		},
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Base returns the hub's base URL, without a trailing slash.
func (c *Client) Base() string { return c.base }

// Endpoint returns the hub's endpoint, which publishers and subscribers use.
func (c *Client) Endpoint() string { return c.base + "/hub" }

// TopicURL returns the URL of a topic, given its URL or the name of a topic hosted by the hub.
func (c *Client) TopicURL(topic string) (string, error) {
	if strings.HasPrefix(topic, "http://") || strings.HasPrefix(topic, "https://") {
		return topic, nil
	}
	if topic == "" || strings.Contains(topic, "://") {
		return "", exit.Usagef("TOPIC: got %q, expected an http(s) URL or the name of a topic hosted by the hub", topic)
	}
	segments := strings.Split(topic, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return c.base + "/topics/" + strings.Join(segments, "/"), nil
}

// response is a successful response.
type response struct {
	Status int
	Header http.Header
	Body   []byte
}

// do sends a request. It turns every status other than 2xx into an error with its exit code.
func (c *Client) do(req *http.Request) (*response, error) {
	resp, err := c.exchange(c.http, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil {
		return nil, exit.With(exit.Unreachable, fmt.Errorf("read the response of the hub at %s: %w", c.base, err))
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp, body)
	}
	return &response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// accepted is the body with which a hub confirms what it does at once.
const accepted = "hub.mode=accepted"

// foreign returns the error for a successful response that no hub sends. lack says what is missing.
func (a *response) foreign(lack string) error {
	return fmt.Errorf("%d %s; is this a quorumhub?", a.Status, lack)
}

// exchange sends a request; the caller reads and closes the response body.
func (c *Client) exchange(via *http.Client, req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "quorumhub-cli")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := via.Do(req)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, req.Context().Err()
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, exit.With(exit.Unreachable, fmt.Errorf("hub at %s is unreachable: %w", c.base, err))
	}
	return resp, nil
}

// ErrCannotServe is a response with a status of 5xx: the hub is up, and the same request may succeed later.
var ErrCannotServe = errors.New("hub unavailable")

func refusal(resp *http.Response, body []byte) error {
	text, _, _ := strings.Cut(strings.TrimSpace(terminal.Printable(string(body[:min(len(body), 500)]))), "\n")
	if text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	var problem struct {
		Detail string `json:"detail"`
		Param  string `json:"param"`
	}
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		text = terminal.Printable(problem.Detail)
		if problem.Param != "" && !strings.HasPrefix(text, problem.Param+":") {
			text = terminal.Printable(problem.Param) + ": " + text
		}
	}
	if resp.StatusCode >= 500 {
		if after := resp.Header.Get("Retry-After"); after != "" {
			text += fmt.Sprintf(" (retry in %s s)", terminal.Printable(after))
		}
		return exit.With(exit.Unreachable, fmt.Errorf("%w: %d %s", ErrCannotServe, resp.StatusCode, text))
	}
	return exit.With(exit.Refused, fmt.Errorf("the hub refused: %d %s", resp.StatusCode, text))
}

// Unexpected returns the error for a response that could not be understood. path is relative to the base URL.
func (c *Client) Unexpected(path string, err error) error {
	return fmt.Errorf("unexpected response from %s%s: %w", c.base, path, err)
}

// form posts a form to the hub's endpoint. A hub's response has the given status or says hub.mode=accepted; with status 0 it must say
// so.
func (c *Client) form(ctx context.Context, form url.Values, status int) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if reason, denied := deniedReason(a.Body); denied {
		return nil, exit.With(exit.Refused, fmt.Errorf("the hub refused: %s", terminal.Printable(reason)))
	}
	if a.Status != status && strings.TrimSpace(string(a.Body)) != accepted {
		return nil, c.Unexpected("/hub", a.foreign("without "+accepted))
	}
	return a.Header, nil
}

// deniedReason returns the reason in a refusal as hubs with the profile mosip give it, with status 200.
func deniedReason(body []byte) (reason string, denied bool) {
	answer, err := url.ParseQuery(strings.TrimSpace(string(body)))
	if err != nil || answer.Get("hub.mode") != "denied" {
		return "", false
	}
	return answer.Get("hub.reason"), true
}

// Message is the content to publish.
type Message struct {
	Body        []byte
	ContentType string
	// IdempotencyKey makes repeated publishes of the same body a single message; empty for none.
	IdempotencyKey string
}

// Publish posts content to the hub's endpoint and returns the message ID.
func (c *Client) Publish(ctx context.Context, topicURL string, m Message) (string, error) {
	query := url.Values{"hub.mode": {"publish"}, "hub.topic": {topicURL}}
	return c.post(ctx, c.Endpoint()+"?"+query.Encode(), m)
}

// PublishHosted posts content to the URL of a hosted topic and returns the message ID.
func (c *Client) PublishHosted(ctx context.Context, topicURL string, m Message) (string, error) {
	return c.post(ctx, topicURL, m)
}

// PublishBatch publishes several messages, all or none. It returns the response body and the message IDs.
func (c *Client) PublishBatch(ctx context.Context, topicURL string, m Message) (raw []byte, ids []string, err error) {
	query := url.Values{"hub.mode": {"publish"}, "hub.topic": {topicURL}, "hub.batch": {"true"}}
	a, err := c.send(ctx, c.Endpoint()+"?"+query.Encode(), m)
	if err != nil {
		return nil, nil, err
	}
	var out struct {
		Messages []struct {
			ID string `json:"id"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil || len(out.Messages) == 0 {
		return nil, nil, c.Unexpected("/hub", cmp.Or(err, errors.New("it lists no messages")))
	}
	for _, m := range out.Messages {
		ids = append(ids, m.ID)
	}
	return a.Body, ids, nil
}

func (c *Client) post(ctx context.Context, target string, m Message) (string, error) {
	a, err := c.send(ctx, target, m)
	if err != nil {
		return "", err
	}
	id := a.Header.Get("X-Hub-Message-Id")
	if id == "" {
		return "", c.Unexpected(strings.TrimPrefix(strings.SplitN(target, "?", 2)[0], c.base), a.foreign("without a message ID"))
	}
	return id, nil
}

func (c *Client) send(ctx context.Context, target string, m Message) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(m.Body))
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Content-Type", m.ContentType)
	if m.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", m.IdempotencyKey)
	}
	return c.do(req)
}

// Ping tells the hub that a topic has changed.
func (c *Client) Ping(ctx context.Context, topicURL string) error {
	_, err := c.form(ctx, url.Values{"hub.mode": {"publish"}, "hub.url": {topicURL}}, http.StatusNoContent)
	return err
}

// Register registers a topic.
func (c *Client) Register(ctx context.Context, topicURL string) error {
	_, err := c.form(ctx, url.Values{"hub.mode": {"register"}, "hub.topic": {topicURL}}, 0)
	return err
}

// Deregister removes a topic and its messages.
func (c *Client) Deregister(ctx context.Context, topicURL string) error {
	_, err := c.form(ctx, url.Values{"hub.mode": {"deregister"}, "hub.topic": {topicURL}}, 0)
	return err
}

// Intent is a request to subscribe or unsubscribe.
type Intent struct {
	Mode, Topic, Callback string
	// Lease is the requested lease; 0 lets the hub choose.
	Lease time.Duration
	// Granted, unless it is nil, is set to the lease that the hub grants, if the hub says so.
	Granted *time.Duration
	Secret  string
	// More holds further parameters.
	More url.Values
	// Scheme is hub.signature_scheme; empty means X-Hub-Signature only.
	Scheme string
}

// SendIntent sends an intent. Success means that the hub will verify it with the callback, not that the callback has confirmed it.
func (c *Client) SendIntent(ctx context.Context, i Intent) error {
	form := url.Values{"hub.mode": {i.Mode}, "hub.topic": {i.Topic}, "hub.callback": {i.Callback}}
	if i.Lease > 0 {
		form.Set("hub.lease_seconds", fmt.Sprint(int64(i.Lease/time.Second)))
	}
	if i.Secret != "" {
		form.Set("hub.secret", i.Secret)
	}
	if i.Scheme != "" {
		form.Set("hub.signature_scheme", i.Scheme)
	}
	for name, values := range i.More {
		form[name] = values
	}
	header, err := c.form(ctx, form, http.StatusAccepted)
	if seconds, wrong := strconv.ParseInt(header.Get("X-Hub-Lease-Seconds"), 10, 32); wrong == nil && i.Granted != nil {
		*i.Granted = time.Duration(seconds) * time.Second
	}
	return err
}
