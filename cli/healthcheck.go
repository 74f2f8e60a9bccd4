package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
)

type healthcheckCmd struct {
	configFlags
	URL     string       `name:"url" help:"The node's base URL. Default: the address in the configuration." placeholder:"URL"`
	Ready   bool         `help:"Also fail while the node is up but cannot serve, for example without a leader."`
	Timeout flagDuration `help:"How long to wait." default:"3s" placeholder:"DURATION"`
}

// Help is shown by --help below the flags.
func (c *healthcheckCmd) Help() string {
	return `For the health checks of containers, which have no curl. Run it with the configuration of the node (--config, --set or the
environment), in the same container. The exit code is 0 if the node is healthy and otherwise 1, as Docker expects.

    HEALTHCHECK CMD ["/quorumhub", "healthcheck"]

A node is restarted when it fails, so this asks /health/live, which is slow to fail. --ready asks /health/ready, for whatever
decides where requests go.`
}

func (c *healthcheckCmd) Run(ctx context.Context, s Streams) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	state, err := c.check(ctx, s.Env)
	if err != nil {
		return exit.With(exit.Failed, err) // Docker reserves other codes
	}
	_, err = fmt.Fprintln(s.Out, state)
	return err
}

func (c *healthcheckCmd) check(ctx context.Context, env []string) (string, error) {
	at, err := c.probe(env)
	if err != nil {
		return "", err
	}
	defer at.client.CloseIdleConnections()
	path, want := "/health/live", "live"
	if c.Ready {
		path, want = "/health/ready", "ready"
	}
	status, body, err := at.get(ctx, at.base+path)
	if status == http.StatusNotFound && at.bare != at.base {
		status, body, err = at.get(ctx, at.bare+path)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no response within %s", configs.FormatDuration(time.Duration(c.Timeout)))
		}
		return "", fmt.Errorf("the node at %s does not answer: %w", at.bare, err)
	}
	var health struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons"`
	}
	switch err := json.Unmarshal(body, &health); {
	case err != nil || health.Status == "":
		return "", fmt.Errorf("unexpected response from %s%s: %d without a status; is this a quorumhub?", at.bare, path, status)
	case status != http.StatusOK || health.Status != want:
		return "", fmt.Errorf("the node is %s: %s", terminal.OneLine(strings.ReplaceAll(health.Status, "_", " ")), terminal.OrDash(strings.Join(health.Reasons, "; ")))
	}
	return want, nil
}

// probe is a way to ask the node of a configuration.
type probe struct {
	// base includes the path of http.public_url, if that has one; bare does not.
	base, bare string
	client     *http.Client
}

func (c *healthcheckCmd) probe(env []string) (*probe, error) {
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("--url: got %q, expected a URL such as http://127.0.0.1:8080", c.URL)
		}
		base := strings.TrimSuffix(strings.TrimRight(c.URL, "/"), "/hub")
		return &probe{base: base, bare: base, client: probeClient(probeTransport())}, nil
	}
	cfg, err := c.load(env)
	if err != nil {
		return nil, err
	}
	return newProbe(cfg)
}

func probeTransport() *http.Transport {
	// The certificate is for the node's public names, and this asks its own address for what is no secret.
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
}

func probeClient(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// newProbe finds the node of a configuration.
func newProbe(cfg *configs.Config) (*probe, error) {
	transport := probeTransport()
	p := &probe{client: probeClient(transport)}
	scheme := "http://"
	if cfg.HTTP.TLS.Cert != "" {
		scheme = "https://"
	}
	if socket, ok := strings.CutPrefix(cfg.HTTP.Addr, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
		p.bare = scheme + "localhost"
	} else {
		addr, err := localAddr(cfg.HTTP.Addr)
		if err != nil {
			return nil, err
		}
		p.bare = scheme + addr
	}
	p.base = p.bare
	if public, err := url.Parse(cfg.HTTP.PublicURL); err == nil {
		p.base += strings.TrimRight(public.EscapedPath(), "/")
	}
	return p, nil
}

// localAddr returns an address of this machine for one to listen on, which may mean all addresses.
func localAddr(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	switch {
	case err != nil:
		return "", fmt.Errorf("http.addr is %q, which does not say where the node listens; expected --url", listen)
	case port == "0":
		return "", errors.New("http.addr has port 0, so nobody knows the node's port; expected --url")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip == netip.IPv4Unspecified() {
		host = "127.0.0.1"
	} else if err == nil && ip == netip.IPv6Unspecified() {
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

func (p *probe) get(ctx context.Context, target string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("User-Agent", "quorumhub-cli")
	resp, err := p.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, body, err
}
