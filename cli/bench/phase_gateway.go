package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"quorumhub/auth"
)

const (
	gatewayConnections = 32
	gatewayRounds      = 10
	// gatewayBodyRate is the number of bodies under way per second of Options.Duration: 1,000 by default.
	gatewayBodyRate  = 200
	gatewayBodyBytes = 1 << 20
)

// gatewayRegistry is what the measured gateway serves: the same service without credentials and with an API key.
const gatewayRegistry = `version: 1
upstreams:
  service: {urls: [%q], connect_timeout: 60s}
services:
  - name: open
    uri: open
    default: "1"
    versions: [{version: "1", target: "service:/small", methods: [GET], auth: none}]
  - name: keyed
    uri: keyed
    default: "1"
    versions: [{version: "1", target: "service:/small", methods: [GET], auth: default, permission: {resource: bench}}]
  - name: bodies
    uri: bodies
    default: "1"
    versions: [{version: "1", target: "service:/bodies", methods: [POST], auth: none, timeout: 60s}]
`

// gatewayPhase measures small answers of a service through the gateway, beside those through httputil.ReverseProxy.
func gatewayPhase() phase {
	p := phase{name: "gateway-get", group: "gateway"}
	p.expected = func(d time.Duration) time.Duration { return 3*d + 2*time.Second }
	p.run = func(ctx context.Context, b *bench) (results []Result, err error) {
		err = b.withGateway(ctx, func(c *child, service *helper) error {
			proxy, err := startHelper(helperProxy, service.URL)
			if err != nil {
				return err
			}
			results, err = b.gatewayGets(ctx, c, proxy, p.name)
			return errors.Join(err, proxy.Close())
		})
		return results, err
	}
	return p
}

// withGateway runs f with a service and a hub in front of it.
func (b *bench) withGateway(ctx context.Context, f func(c *child, service *helper) error) (err error) {
	service, err := startHelper(helperUpstream, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	dir, err := os.MkdirTemp(b.Dir, "quorumhub-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	key, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		return err
	}
	rules := fmt.Sprintf("api_keys: [{id: %s, name: bench, sha256: %s, roles: [bench]}]\nrules: [{name: bench, may: [call, \"admin.*\"], resources: [bench], who: [{role: bench}]}]\n",
		id, hex.EncodeToString(hash))
	env := profileEnv(b.ProfileDir != "")
	for name, text := range map[string]string{"AUTH": rules, "GATEWAY": fmt.Sprintf(gatewayRegistry, service.URL)} {
		file := filepath.Join(dir, strings.ToLower(name)+".yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		env = append(env, "QUORUMHUB_"+name+"_FILE="+file)
	}
	c, err := startHub(ctx, b.Binary, b.Dir, append(env, "QUORUMHUB_AUTH_MODE=required"))
	if err != nil {
		return err
	}
	c.key = key
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.awaitService(ctx); err != nil {
		return err
	}
	if err := f(c, service); err != nil {
		return errors.Join(err, c.alive())
	}
	return c.alive()
}

// awaitService waits until the gateway serves its registry.
func (c *child) awaitService(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setupWithin)
	defer cancel()
	for {
		got, err := c.get(ctx, "/gateway/open")
		if err == nil && got.status == http.StatusOK {
			return nil
		}
		if ctx.Err() != nil || c.alive() != nil {
			return errors.Join(fmt.Errorf("the gateway answers %d %s, expected 200", got.status, got.body), err, c.alive())
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// gatewayGets loads the proxy, and the gateway without and with an API key, in turns.
func (b *bench) gatewayGets(ctx context.Context, c *child, proxy *helper, name string) ([]Result, error) {
	var all []*getters
	for _, to := range []struct{ url, key string }{{proxy.URL + "/small", ""}, {c.URL + "/gateway/open", ""}, {c.URL + "/gateway/keyed", c.key}} {
		g, err := newGetters(ctx, b.clock, gatewayConnections, to.url, to.key)
		if err != nil {
			return nil, err
		}
		defer g.close()
		all = append(all, g)
	}
	raw, ways := all[0], all[1:]
	if got, err := (&child{URL: c.URL, client: c.client}).get(ctx, "/gateway/keyed"); err != nil || got.status != http.StatusUnauthorized {
		return nil, errors.Join(fmt.Errorf("a request without the API key got status %d, expected 401", got.status), err)
	}
	for _, g := range all { // opens the connections behind
		if err := g.window(ctx, min(b.Duration/10, 200*time.Millisecond)); err != nil {
			return nil, err
		}
		g.forget()
	}
	written := b.profile(ctx, c, name, time.Duration(len(all))*b.Duration)
	used := make([]time.Duration, len(all))
	for round := range gatewayRounds {
		for i := range all {
			n := (round + i) % len(all) // none is always the first, or behind the same one
			pid := c.cmd.Process.Pid
			if all[n] == raw {
				pid = proxy.cmd.Process.Pid
			}
			before, err := cpuOf(pid)
			if err == nil {
				err = all[n].window(ctx, b.Duration/gatewayRounds)
			}
			after, cpuErr := cpuOf(pid)
			if err := errors.Join(err, cpuErr); err != nil {
				return nil, errors.Join(err, written())
			}
			used[n] += after - before
		}
	}
	if err := written(); err != nil {
		return nil, err
	}
	aims := []struct {
		way        string
		throughput float64
		median     *Aim
	}{{"", 0.7, atMost(1.3, ofValue, " ×")}, {"an API key", 0.5, nil}}
	var out []Result
	for i, g := range ways {
		spread, aim := spreadOf(raw.rates), aims[i]
		title, phase := fmt.Sprintf("gateway, GET, %d connections", gatewayConnections), name
		if aim.way != "" {
			title, phase = title+", "+aim.way, name+"-keyed"
		}
		res := Result{Phase: phase, Title: title, Unit: "requests/s", Value: spreadOf(g.rates).Median, Raw: &spread, Ratio: pairedRatio(g.rates, raw.rates),
			Latency: g.latency.quantiles(), RawLatency: raw.latency.quantiles(), Aim: atLeast(aim.throughput), Note: fmt.Sprintf("raw is httputil.ReverseProxy, %.0f µs CPU each", each(used[0], raw.total))}
		res.CPU = each(used[i+1], g.total)
		median := Result{Phase: phase + "-p50", Title: title + ", median", Unit: "× the p50 of ReverseProxy", Aim: aim.median}
		if res.RawLatency.P50 > 0 {
			median.Value = res.Latency.P50 / res.RawLatency.P50
		}
		out = append(out, res.judge(), median.judge())
	}
	return out, nil
}

// each returns the microseconds of one of n.
func each(used time.Duration, n int64) float64 {
	return float64(used.Microseconds()) / float64(max(n, 1))
}

// gatewayMemoryPhase measures the memory of bodies that pass through at the same time.
func gatewayMemoryPhase() phase {
	p := phase{name: "gateway-memory", group: "gateway", slow: true}
	p.expected = expected(1, 2)
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		n := int(gatewayBodyRate * b.Duration.Seconds())
		res := Result{Phase: p.name, Unit: "MiB", Aim: atMost(100, ofValue, " MiB"),
			Title: fmt.Sprintf("gateway, memory for %s bodies of 1 MiB at once", thousands(int64(n)))}
		err := b.withGateway(ctx, func(c *child, _ *helper) error {
			before, _, err := c.memory()
			if err != nil {
				return err
			}
			began := time.Now()
			if err := sendBodies(ctx, c.URL, n); err != nil {
				return err
			}
			after, peak, err := c.memory()
			res.Value = mebibytes(peak - before)
			res.Note = fmt.Sprintf("from %.0f MiB to at most %.0f, %.0f at the end, in %.1f s; up and then down, all stop half way until all are there",
				mebibytes(before), mebibytes(peak), mebibytes(after), time.Since(began).Seconds())
			return err
		})
		if err != nil {
			return nil, err
		}
		return []Result{res.judge()}, nil
	}
	return p
}

// bodiesWithin is how long all bodies may take.
const bodiesWithin = time.Minute

// sendBodies sends n bodies at the same time and reads the answers, which are as long.
func sendBodies(ctx context.Context, at string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, bodiesWithin)
	defer cancel()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	failed := make(chan error, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := sendBody(ctx, transport, fmt.Sprintf("%s/gateway/bodies?crowd=%d", at, n)); err != nil {
				failed <- err
				cancel() // the others would wait for this one
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func sendBody(ctx context.Context, transport http.RoundTripper, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, io.LimitReader(zeroes{}, gatewayBodyBytes))
	if err != nil {
		return err
	}
	req.ContentLength = gatewayBodyBytes
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	got, err := io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("POST %s: %w", to, err)
	}
	if resp.StatusCode != http.StatusOK || got != gatewayBodyBytes {
		return fmt.Errorf("POST %s: got status %d with %d bytes, expected 200 with %d", to, resp.StatusCode, got, gatewayBodyBytes)
	}
	return nil
}
