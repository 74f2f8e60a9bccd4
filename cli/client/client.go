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
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// DefaultURL is where a hub listens unless told otherwise.
const DefaultURL = "http://127.0.0.1:8080/hub"

// maxAnswerBytes bounds what is read of one answer of the hub.
const maxAnswerBytes = 32 << 20

// Client talks to one hub. It is safe for concurrent use.
type Client struct {
	Base      string // without a trailing slash
	token     string // empty: no credentials
	timeout   time.Duration
	transport *http.Transport
	http      *http.Client
}

// Options configures a client.
type Options struct {
	// Timeout bounds one request, with its response.
	Timeout time.Duration
	// Token is sent as a bearer token; empty sends no credentials.
	Token string
	// RootCAs verifies the hub's certificate; nil uses the system's roots.
	RootCAs *x509.CertPool
}

// New takes the endpoint (http://host/hub) or the base URL of a hub.
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
		Base: base, token: o.Token, timeout: o.Timeout, transport: transport,
		http: &http.Client{
			Timeout: o.Timeout,
			// A redirect would turn the POST into a GET; the hub never sends one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     transport,
		},
	}, nil
}

func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Endpoint is the URL of the hub itself, as subscribers and publishers use it.
func (c *Client) Endpoint() string { return c.Base + "/hub" }

// TopicURL is the URL of a topic given as URL or as the name of a topic that the hub hosts.
func (c *Client) TopicURL(topic string) (string, error) {
	if strings.HasPrefix(topic, "http://") || strings.HasPrefix(topic, "https://") {
		return topic, nil
	}
	if topic == "" || strings.Contains(topic, "://") {
		return "", exit.Usagef("TOPIC: got %q, expected an http(s) URL or the name of a topic that the hub hosts", topic)
	}
	segments := strings.Split(topic, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return c.Base + "/topics/" + strings.Join(segments, "/"), nil
}

// response is what the hub said.
type response struct {
	Status int
	Header http.Header
	Body   []byte
}

// do sends a request and turns every answer that is no success into an error with its exit code.
func (c *Client) do(req *http.Request) (*response, error) {
	resp, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, exit.With(exit.Unreachable, fmt.Errorf("read the answer of the hub at %s: %w", c.Base, err))
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp, body)
	}
	return &response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// exchange sends a request; the caller reads and closes the answer's body.
func (c *Client) exchange(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "quorumhub-cli")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, req.Context().Err()
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, exit.With(exit.Unreachable, fmt.Errorf("the hub at %s cannot be reached: %w", c.Base, err))
	}
	return resp, nil
}

// ErrCannotServe is an answer of the kind 5xx: the hub is there, and the same request may succeed later.
var ErrCannotServe = errors.New("the hub cannot serve now")

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
			text += fmt.Sprintf(" (try again in %s s)", terminal.Printable(after))
		}
		return exit.With(exit.Unreachable, fmt.Errorf("%w: %d %s", ErrCannotServe, resp.StatusCode, text))
	}
	return exit.With(exit.Refused, fmt.Errorf("the hub refused: %d %s", resp.StatusCode, text))
}

// Unexpected is the error for a response that could not be understood, and whose path is below the hub's base URL.
func (c *Client) Unexpected(path string, err error) error {
	return fmt.Errorf("unexpected response from %s%s: %w", c.Base, path, err)
}

// form posts a form to the hub's endpoint.
func (c *Client) form(ctx context.Context, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint(), strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = c.do(req)
	return err
}

// Message is content to publish.
type Message struct {
	Body        []byte
	ContentType string
	// IdempotencyKey makes a repeated publish of the same body one message; empty for none.
	IdempotencyKey string
}

// Publish sends content to a topic and returns the id of the message.
func (c *Client) Publish(ctx context.Context, topicURL string, m Message) (string, error) {
	query := url.Values{"hub.mode": {"publish"}, "hub.topic": {topicURL}}
	return c.post(ctx, c.Endpoint()+"?"+query.Encode(), m)
}

// PublishHosted sends content to a topic that the hub hosts, at the topic's own URL.
func (c *Client) PublishHosted(ctx context.Context, topicURL string, m Message) (string, error) {
	return c.post(ctx, topicURL, m)
}

// PublishBatch sends several messages at once, and returns the hub's answer and the ids of the messages.
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
	return a.Header.Get("X-Hub-Message-Id"), nil
}

func (c *Client) send(ctx context.Context, target string, m Message) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(m.Body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", m.ContentType)
	if m.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", m.IdempotencyKey)
	}
	return c.do(req)
}

// Ping tells the hub that a topic has changed.
func (c *Client) Ping(ctx context.Context, topicURL string) error {
	return c.form(ctx, url.Values{"hub.mode": {"publish"}, "hub.url": {topicURL}})
}

// Register makes a topic known to the hub.
func (c *Client) Register(ctx context.Context, topicURL string) error {
	return c.form(ctx, url.Values{"hub.mode": {"register"}, "hub.topic": {topicURL}})
}

// Deregister removes a topic and its messages.
func (c *Client) Deregister(ctx context.Context, topicURL string) error {
	return c.form(ctx, url.Values{"hub.mode": {"deregister"}, "hub.topic": {topicURL}})
}

// Intent is a wish to subscribe or unsubscribe.
type Intent struct {
	Mode, Topic, Callback string
	// Lease of 0 leaves the choice to the hub.
	Lease  time.Duration
	Secret string
	// More are further parameters.
	More url.Values
	// Scheme is hub.signature_scheme; empty is X-Hub-Signature only.
	Scheme string
}

// SendIntent sends an intent. Success means that the hub will ask the callback, not that the callback agreed.
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
	return c.form(ctx, form)
}
