package upstream

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// maxAddresses bounds the addresses of one upstream: a call notes in 64 bits which it has tried.
const maxAddresses = 64

// maxRetry bounds Config.Retry.
const maxRetry = 10

// Config describes one upstream. Name and URLs are required; zero values of the rest have the defaults given.
type Config struct {
	Name string
	// URLs are the addresses, equal to each other: http or https, a host, maybe a port and a path that goes before
	// that of each call.
	URLs []string
	// Retry is how often a call is repeated at most. See Pool.Call for which calls are.
	Retry   int
	Breaker Breaker
	Eject   Eject
	// Headers are set on every request, over what the request has. Their values are never shown.
	Headers map[string]string
	// Timeout bounds the wait for the header of the response, over all attempts; 0: 10 s. While a body that cannot be
	// sent again streams, it counts from the last piece that the upstream took; waiting for the client does not count.
	Timeout time.Duration
	// ConnectTimeout bounds the wait for a connection; 0: 3 s.
	ConnectTimeout time.Duration
	// IdleTimeout bounds each wait for the next piece of a response's body; 0: 30 s.
	IdleTimeout time.Duration
	// MaxInFlight bounds the calls under way, bodies included; more fail with ClassTooMany. 0: 2048.
	MaxInFlight int
}

// Breaker configures the circuit breaker of an upstream: after Failures failed calls in a row it refuses calls for OpenFor,
// then lets one through, whose outcome closes or opens it.
type Breaker struct {
	Failures int           // 0 or less: never
	OpenFor  time.Duration // 0: 10 s
}

// Eject configures the ejection of single addresses: after Failures failures in a row an address gets no calls for For,
// doubled with each ejection that follows soon, up to Max.
type Eject struct {
	Failures int           // 0 or less: never
	For      time.Duration // 0: 5 s
	Max      time.Duration // 0: 5 min
}

// New returns a pool that calls through transport, which must not follow redirects nor decode bodies, and which owns the
// connections. Errors name the option and what is expected. Close the pool when done.
func New(cfg Config, transport http.RoundTripper, log *slog.Logger) (*Pool, error) {
	switch {
	case cfg.Name == "":
		return nil, fmt.Errorf("name is empty; expected the upstream's name")
	case len(cfg.URLs) == 0:
		return nil, fmt.Errorf("urls is empty; expected at least one URL such as http://hr.internal:8080")
	case len(cfg.URLs) > maxAddresses:
		return nil, fmt.Errorf("urls has %d entries; expected at most %d", len(cfg.URLs), maxAddresses)
	case cfg.Retry < 0 || cfg.Retry > maxRetry:
		return nil, fmt.Errorf("retry is %d; expected 0 to %d", cfg.Retry, maxRetry)
	}
	for name, d := range map[string]time.Duration{"timeout": cfg.Timeout, "connect_timeout": cfg.ConnectTimeout,
		"idle_timeout": cfg.IdleTimeout, "breaker.open_for": cfg.Breaker.OpenFor, "eject.for": cfg.Eject.For, "eject.max": cfg.Eject.Max} {
		if d < 0 {
			return nil, fmt.Errorf("%s is %v; expected a duration above 0", name, d)
		}
	}
	if cfg.MaxInFlight < 0 {
		return nil, fmt.Errorf("max_in_flight is %d; expected a number above 0", cfg.MaxInFlight)
	}
	p := &Pool{
		name: cfg.Name, transport: transport, log: log.With("upstream", cfg.Name), retry: cfg.Retry,
		timeout:     cmp.Or(cfg.Timeout, 10*time.Second),
		connect:     cmp.Or(cfg.ConnectTimeout, 3*time.Second),
		idle:        cmp.Or(cfg.IdleTimeout, 30*time.Second),
		maxInFlight: int64(cmp.Or(cfg.MaxInFlight, 2048)),
		breaker:     breaker{limit: cfg.Breaker.Failures, openFor: cmp.Or(cfg.Breaker.OpenFor, 10*time.Second)},
		eject: Eject{Failures: cfg.Eject.Failures, For: cmp.Or(cfg.Eject.For, 5*time.Second),
			Max: cmp.Or(cfg.Eject.Max, 5*time.Minute)},
	}
	for i, text := range cfg.URLs {
		a, err := newAddress(text)
		if err != nil {
			return nil, fmt.Errorf("urls[%d]: %w", i, err)
		}
		if slices.ContainsFunc(p.addresses, func(b *address) bool { return a.shown == b.shown }) {
			return nil, fmt.Errorf("urls[%d]: %s is there twice", i, a.shown)
		}
		p.addresses = append(p.addresses, a)
	}
	if len(p.addresses) == 1 {
		p.eject.Failures = 0 // there is nowhere else to go
	}
	headers, err := fixedHeaders(cfg.Headers)
	if err != nil {
		return nil, err
	}
	p.headers = headers
	return p, nil
}

// newAddress reads one URL of the configuration.
func newAddress(text string) (*address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("not a URL; expected one such as http://hr.internal:8080") // the error would show a password
	}
	port, err := strconv.Atoi(cmp.Or(u.Port(), "80"))
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("contains a user name or password; expected them in headers")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || err != nil || port < 1 || port > 65535:
		return nil, fmt.Errorf("%q is not usable; expected http:// or https:// and a host, such as http://hr.internal:8080", text)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return nil, fmt.Errorf("%q has a query or a fragment; expected neither", text)
	}
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	if base != "" {
		if err := checkTarget(base); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
	}
	return &address{scheme: u.Scheme, host: u.Host, base: base, shown: u.Scheme + "://" + strings.ToLower(u.Host) + base}, nil
}

// fixedHeaders checks the headers that every request gets and brings their names into the form of http.Header.
func fixedHeaders(headers map[string]string) (map[string][]string, error) {
	out := make(map[string][]string, len(headers))
	for name, value := range headers {
		key := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return nil, fmt.Errorf("headers: %q is not the name of a header", name)
		case isHopByHop(key) || key == "Host" || key == "Content-Length":
			return nil, fmt.Errorf("headers: %s is set by the gateway itself; expected another header", key)
		case !httpguts.ValidHeaderFieldValue(value):
			return nil, fmt.Errorf("headers.%s: the value contains control characters", key)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("headers: %s is there twice", key)
		}
		out[key] = []string{value}
	}
	return out, nil
}
