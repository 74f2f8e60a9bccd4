package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// defaultHub is where a hub listens unless told otherwise.
const defaultHub = "http://127.0.0.1:8080/hub"

// maxAnswerBytes bounds what is read of one answer of the hub.
const maxAnswerBytes = 32 << 20

// hubFlags are the flags of every command that talks to a hub.
type hubFlags struct {
	Hub     string       `help:"The hub's endpoint." default:"${hub}" env:"QUORUMHUB_HUB" placeholder:"URL"`
	Token   string       `help:"An API key or access token to call the hub with." env:"QUORUMHUB_TOKEN" placeholder:"TOKEN"`
	CA      string       `name:"ca" help:"Certificates (PEM) to trust for https besides the system's." env:"QUORUMHUB_CA" placeholder:"FILE"`
	Timeout flagDuration `name:"request-timeout" help:"How long the hub may take to answer." default:"30s" placeholder:"DURATION"`
}

func (f *hubFlags) client() (*hubClient, error) {
	c, err := newHubClient(f.Hub, time.Duration(f.Timeout))
	if err != nil {
		return nil, err
	}
	c.token = f.Token
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, usageError("--ca: " + err.Error())
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usageError(fmt.Sprintf("--ca: %s holds no certificate; expected PEM", f.CA))
		}
		c.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	return c, nil
}

// hubClient talks to one hub. It is safe for concurrent use.
type hubClient struct {
	base     string // without a trailing slash
	endpoint string
	token    string // empty: no credentials
	http     *http.Client
}

// newHubClient takes the endpoint (http://host/hub) or the base URL of a hub.
func newHubClient(hub string, timeout time.Duration) (*hubClient, error) {
	u, err := url.Parse(hub)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError(fmt.Sprintf("--hub: got %q, expected the URL of a hub such as %s", hub, defaultHub))
	}
	u.RawQuery, u.Fragment = "", ""
	trimmed := strings.TrimRight(u.String(), "/")
	base := strings.TrimSuffix(trimmed, "/hub")
	return &hubClient{
		base: base, endpoint: base + "/hub",
		http: &http.Client{
			Timeout: timeout,
			// A redirect would turn the POST into a GET; the hub never sends one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second},
		},
	}, nil
}

// waitForHeaderOnly bounds the time until an answer begins, and not that of its body.
func (c *hubClient) waitForHeaderOnly() {
	c.http.Transport.(*http.Transport).ResponseHeaderTimeout, c.http.Timeout = c.http.Timeout, 0
}

func (c *hubClient) close() { c.http.CloseIdleConnections() }

// topicURL is the URL of a topic given as URL or as the name of a topic that the hub hosts.
func (c *hubClient) topicURL(topic string) (string, error) {
	if strings.HasPrefix(topic, "http://") || strings.HasPrefix(topic, "https://") {
		return topic, nil
	}
	if topic == "" || strings.Contains(topic, "://") {
		return "", usageError(fmt.Sprintf("TOPIC: got %q, expected an http(s) URL or the name of a topic that the hub hosts", topic))
	}
	segments := strings.Split(topic, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return c.base + "/topics/" + strings.Join(segments, "/"), nil
}

// answer is what the hub said.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// do sends a request and turns every answer that is no success into an error with its exit code.
func (c *hubClient) do(req *http.Request) (*answer, error) {
	resp, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, withCode(codeUnreachable, fmt.Errorf("read the answer of the hub at %s: %w", c.base, err))
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp, body)
	}
	return &answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// exchange sends a request; the caller reads and closes the answer's body.
func (c *hubClient) exchange(req *http.Request) (*http.Response, error) {
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
		return nil, withCode(codeUnreachable, fmt.Errorf("the hub at %s cannot be reached: %w", c.base, err))
	}
	return resp, nil
}

// errCannotServe is an answer of the kind 5xx: the hub is there, and the same request may succeed later.
var errCannotServe = errors.New("the hub cannot serve now")

func refusal(resp *http.Response, body []byte) error {
	text, _, _ := strings.Cut(strings.TrimSpace(printable(string(body[:min(len(body), 500)]))), "\n")
	if text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	var problem struct {
		Detail string `json:"detail"`
		Param  string `json:"param"`
	}
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		text = printable(problem.Detail)
		if problem.Param != "" && !strings.HasPrefix(text, problem.Param+":") {
			text = printable(problem.Param) + ": " + text
		}
	}
	if resp.StatusCode >= 500 {
		if after := resp.Header.Get("Retry-After"); after != "" {
			text += fmt.Sprintf(" (try again in %s s)", printable(after))
		}
		return withCode(codeUnreachable, fmt.Errorf("%w: %d %s", errCannotServe, resp.StatusCode, text))
	}
	return withCode(codeRefused, fmt.Errorf("the hub refused: %d %s", resp.StatusCode, text))
}

// form posts a form to the hub's endpoint.
func (c *hubClient) form(ctx context.Context, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = c.do(req)
	return err
}

// message is content to publish.
type message struct {
	Body        []byte
	ContentType string
	// IdempotencyKey makes a repeated publish of the same body one message; empty for none.
	IdempotencyKey string
}

// publish sends content to a topic and returns the id of the message.
func (c *hubClient) publish(ctx context.Context, topicURL string, m message) (string, error) {
	query := url.Values{"hub.mode": {"publish"}, "hub.topic": {topicURL}}
	return c.post(ctx, c.endpoint+"?"+query.Encode(), m)
}

// publishHosted sends content to a topic that the hub hosts, at the topic's own URL.
func (c *hubClient) publishHosted(ctx context.Context, topicURL string, m message) (string, error) {
	return c.post(ctx, topicURL, m)
}

// publishBatch sends several messages at once, and returns the hub's answer and the ids of the messages.
func (c *hubClient) publishBatch(ctx context.Context, topicURL string, m message) (raw []byte, ids []string, err error) {
	query := url.Values{"hub.mode": {"publish"}, "hub.topic": {topicURL}, "hub.batch": {"true"}}
	a, err := c.send(ctx, c.endpoint+"?"+query.Encode(), m)
	if err != nil {
		return nil, nil, err
	}
	var out struct {
		Messages []struct {
			ID string `json:"id"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil || len(out.Messages) == 0 {
		return nil, nil, fmt.Errorf("the answer of %s is not what a hub says to a batch", c.endpoint)
	}
	for _, m := range out.Messages {
		ids = append(ids, m.ID)
	}
	return a.Body, ids, nil
}

func (c *hubClient) post(ctx context.Context, target string, m message) (string, error) {
	a, err := c.send(ctx, target, m)
	if err != nil {
		return "", err
	}
	return a.Header.Get("X-Hub-Message-Id"), nil
}

func (c *hubClient) send(ctx context.Context, target string, m message) (*answer, error) {
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

// ping tells the hub that a topic has changed.
func (c *hubClient) ping(ctx context.Context, topicURL string) error {
	return c.form(ctx, url.Values{"hub.mode": {"publish"}, "hub.url": {topicURL}})
}

// register makes a topic known to the hub.
func (c *hubClient) register(ctx context.Context, topicURL string) error {
	return c.form(ctx, url.Values{"hub.mode": {"register"}, "hub.topic": {topicURL}})
}

// intent is a wish to subscribe or unsubscribe.
type intent struct {
	Mode, Topic, Callback string
	// Lease of 0 leaves the choice to the hub.
	Lease  time.Duration
	Secret string
	// More are further parameters.
	More url.Values
	// Scheme is hub.signature_scheme; empty is X-Hub-Signature only.
	Scheme string
}

// request sends an intent. Success means that the hub will ask the callback, not that the callback agreed.
func (c *hubClient) request(ctx context.Context, i intent) error {
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

// list fetches all pages of a list of the admin API.
func (c *hubClient) list(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	query = cloneValues(query)
	for seen := map[string]bool{}; ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+query.Encode(), nil)
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
			return nil, fmt.Errorf("the answer of %s%s is not what a hub says: %w", c.base, path, err)
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		if seen[page.Next] {
			return nil, fmt.Errorf("the pages of %s%s do not end", c.base, path)
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

// cluster asks the node for its cluster.
func (c *hubClient) cluster(ctx context.Context) (*clusterState, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/cluster", nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	a, err := c.do(req)
	if err != nil {
		return nil, err
	}
	state := new(clusterState)
	if err := json.Unmarshal(a.Body, state); err != nil {
		return nil, fmt.Errorf("the answer of %s/v1/cluster is not what a hub says: %w", c.base, err)
	}
	return state, nil
}

func cloneValues(v url.Values) url.Values {
	out := make(url.Values, len(v)+1)
	for key, values := range v {
		out[key] = append([]string(nil), values...)
	}
	return out
}
