package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// getters send the same GET over a number of keep-alive connections. net/http's client would cost more than what is measured, so each is
// a connection, a text and a reader.
type getters struct {
	url     string
	clock   stopwatch
	conns   []*getter
	latency *latencies
	rates   []float64 // of each window
	total   int64
}

type getter struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

// newGetters opens the connections. key is an API key; empty: none.
func newGetters(ctx context.Context, clock stopwatch, connections int, to, key string) (*getters, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	text := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: quorumhub-bench\r\nAccept: application/json\r\n"
	if key != "" {
		text += "X-Api-Key: " + key + "\r\n"
	}
	g := &getters{url: to, clock: clock, latency: newLatencies(nil)}
	for range connections {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			g.close()
			return nil, err
		}
		g.conns = append(g.conns, &getter{conn, bufio.NewReader(conn), []byte(text + "\r\n")})
	}
	return g, nil
}

func (g *getters) close() {
	for _, c := range g.conns {
		_ = c.conn.Close() // nothing is under way
	}
}

// answerWithin is how long an answer may take.
const answerWithin = 30 * time.Second

// window sends requests on all connections for about d. Every answer must be a 200 with the service's body.
func (g *getters) window(ctx context.Context, d time.Duration) error {
	var (
		wg     sync.WaitGroup
		count  atomic.Int64
		failed = make(chan error, len(g.conns))
		begin  = g.clock.now()
	)
	for _, c := range g.conns {
		wg.Go(func() {
			n := int64(0)
			defer func() { count.Add(n) }()
			if err := c.conn.SetDeadline(time.Now().Add(d + answerWithin)); err != nil {
				failed <- err
				return
			}
			for at := g.clock.now(); at < begin+d && ctx.Err() == nil; n++ {
				if err := c.get(); err != nil {
					failed <- fmt.Errorf("GET %s: %w", g.url, err)
					return
				}
				now := g.clock.now()
				g.latency.record(0, at, now)
				at = now
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	g.rates = append(g.rates, perSecond(count.Load(), g.clock.now()-begin))
	g.total += count.Load()
	return ctx.Err()
}

// forget drops what was measured.
func (g *getters) forget() { g.latency, g.rates, g.total = newLatencies(nil), nil, 0 }

func (c *getter) get() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read whole
	n, err := io.Copy(io.Discard, resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK || n != int64(len(smallBody)):
		return fmt.Errorf("got status %d with %d bytes, expected 200 with %d", resp.StatusCode, n, len(smallBody))
	}
	return nil
}

// pairedRatio returns the median of the ratios of windows that ran one after the other: what else the machine does changes from window to
// window, and much less within a pair.
func pairedRatio(of, to []float64) float64 {
	var ratios []float64
	for i, base := range to[:min(len(of), len(to))] {
		if base > 0 {
			ratios = append(ratios, of[i]/base)
		}
	}
	if slices.Sort(ratios); len(ratios) == 0 {
		return 0
	}
	return spreadOf(ratios).Median
}
