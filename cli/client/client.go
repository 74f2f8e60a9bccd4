// Package client calls a hub's HTTP API on behalf of the commands: publishing, subscribing and the admin API. Its errors carry the exit
// code of the failure. It may import exit and terminal.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// DefaultURL is the endpoint of a hub with default settings.
const DefaultURL = "http://127.0.0.1:8080/hub"

// maxResponseBytes limits what is read of one response.
const maxResponseBytes = 32 << 20

// topicsPath is where a hub hosts topics.
const topicsPath = "/topics/"

// dialPatience limits the wait for a connection to one of several nodes.
const dialPatience = 3 * time.Second

// Client talks to one hub, through any of the nodes it knows. It is safe for concurrent use.
type Client struct {
	bases     []string                              // of the nodes, without a trailing slash
	at        atomic.Int64                          // index of the node that answered last
	token     string                                // empty: that of login
	login     func(context.Context) (string, error) // nil: there is none
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

// New returns a client of a hub, given the endpoint (http://host/hub) or the base URL of one or more of its nodes.
func New(nodes []string, o Options) (*Client, error) {
	var bases []string
	for _, node := range nodes {
		u, err := url.Parse(strings.TrimSpace(node))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, exit.Usagef("--hub: got %q, expected the URL of a hub such as %s", node, DefaultURL)
		}
		u.RawQuery, u.Fragment = "", ""
		base := strings.TrimSuffix(strings.TrimRight(u.String(), "/"), "/hub")
		if !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	if len(bases) == 0 {
		return nil, exit.Usagef("--hub: expected the URL of a hub such as %s", DefaultURL)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}
	if o.RootCAs != nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}
	}
	if len(bases) > 1 {
		transport.DialContext = (&net.Dialer{Timeout: dialPatience}).DialContext
	}
	return &Client{
		bases: bases, token: o.Token, transport: transport,
		http: &http.Client{
			Timeout: o.Timeout,
			// Following a redirect would turn a POST into a GET, and the hub never sends one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     transport,
		},
	}, nil
}

// SetLogin sets what gets the token to send if there is no Options.Token; nil, or an empty token: none is sent. Call it before the client
// is used.
func (c *Client) SetLogin(login func(context.Context) (string, error)) { c.login = login }

// Bases returns the base URLs of the nodes, without trailing slashes.
func (c *Client) Bases() []string { return slices.Clone(c.bases) }

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Base returns the base URL of the node that answered last, without a trailing slash.
func (c *Client) Base() string { return c.base() }

// Endpoint returns that node's endpoint, which publishers and subscribers use.
func (c *Client) Endpoint() string { return c.base() + "/hub" }

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
	return c.base() + topicsPath + strings.Join(segments, "/"), nil
}

// response is a successful response.
type response struct {
	Status int
	Header http.Header
	Body   []byte
}

// do sends a call and reads the response.
func (c *Client) do(ctx context.Context, k call) (*response, error) {
	resp, err := c.exchange(ctx, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil {
		return nil, exit.With(exit.Unreachable, fmt.Errorf("read the response of the hub at %s: %w", c.base(), err))
	}
	return &response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// accepted is the body with which a hub confirms what it does at once.
const accepted = "hub.mode=accepted"

// foreign returns the error for a successful response that no hub sends. lack says what is missing.
func (a *response) foreign(lack string) error {
	return fmt.Errorf("%d %s; is this a quorumhub?", a.Status, lack)
}

// ErrCannotServe is a response with a status of 5xx: the hub is up, and the same request may succeed later.
var ErrCannotServe = errors.New("hub unavailable")

// refusalText returns the explanation of a response with a status other than 2xx.
func refusalText(resp *http.Response, body []byte) string {
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
	return text
}

// Unexpected returns the error for a response that could not be understood. path is relative to the base URL.
func (c *Client) Unexpected(path string, err error) error {
	return fmt.Errorf("unexpected response from %s%s: %w", c.base(), path, err)
}

// form posts a form to the hub's endpoint. A hub's response has the given status or says hub.mode=accepted; with status 0 it must say
// so.
func (c *Client) form(ctx context.Context, form url.Values, status int) (http.Header, error) {
	topics := map[string]string{}
	for _, param := range []string{"hub.topic", "hub.url"} {
		if form.Has(param) {
			topics[param] = form.Get(param)
		}
	}
	a, err := c.do(ctx, call{
		method: http.MethodPost, target: below("/hub"), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		form: func(base string) []byte {
			for param, topic := range topics {
				form.Set(param, c.topicAt(base, topic))
			}
			return []byte(form.Encode())
		},
		again: form.Get("hub.mode") != "deregister", // which fails the second time
	})
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
	return c.post(ctx, c.publishing(topicURL), m)
}

// PublishHosted posts content to the URL of a hosted topic and returns the message ID.
func (c *Client) PublishHosted(ctx context.Context, topicURL string, m Message) (string, error) {
	return c.post(ctx, func(base string) string { return c.topicAt(base, topicURL) }, m)
}

// PublishBatch publishes several messages, all or none. It returns the response body and the message IDs.
func (c *Client) PublishBatch(ctx context.Context, topicURL string, m Message) (raw []byte, ids []string, err error) {
	a, err := c.send(ctx, c.publishing(topicURL, "hub.batch", "true"), m)
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

// publishing returns the target of a publish.
func (c *Client) publishing(topicURL string, more ...string) func(string) string {
	return func(base string) string {
		query := url.Values{"hub.mode": {"publish"}, "hub.topic": {c.topicAt(base, topicURL)}}
		for i := 0; i < len(more); i += 2 {
			query.Set(more[i], more[i+1])
		}
		return base + "/hub?" + query.Encode()
	}
}

func (c *Client) post(ctx context.Context, target func(string) string, m Message) (string, error) {
	a, err := c.send(ctx, target, m)
	if err != nil {
		return "", err
	}
	id := a.Header.Get("X-Hub-Message-Id")
	if id == "" {
		return "", c.Unexpected("/hub", a.foreign("without a message ID"))
	}
	return id, nil
}

func (c *Client) send(ctx context.Context, target func(string) string, m Message) (*response, error) {
	header := map[string]string{"Content-Type": m.ContentType}
	if m.IdempotencyKey != "" {
		header["Idempotency-Key"] = m.IdempotencyKey
	}
	return c.do(ctx, call{method: http.MethodPost, target: target, header: header, body: m.Body, again: m.IdempotencyKey != ""})
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
	_, err := c.Ask(ctx, i)
	return err
}

// Ask is SendIntent, and returns how to find the request. See Settled.
func (c *Client) Ask(ctx context.Context, i Intent) (Accepted, error) {
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
	return Accepted{ID: header.Get("X-Hub-Request-Id"), index: header.Get("X-Hub-Index")}, err
}
