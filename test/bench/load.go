package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// target is where publishers post to, and what answer counts as accepted.
type target struct {
	url    *url.URL
	header http.Header
	status int
}

func newTarget(raw string, status int) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, err
	}
	return target{u, http.Header{"Content-Type": {"application/json"}}, status}, nil
}

// pool is a set of publishers with a kept-alive connection each.
type pool struct {
	size      int
	transport *http.Transport
	clock     stopwatch
	messages  messages
}

func newPool(size int, clock stopwatch) *pool {
	return &pool{size: size, clock: clock, messages: newMessages(), transport: &http.Transport{
		MaxIdleConns: size, MaxIdleConnsPerHost: size, MaxConnsPerHost: size, IdleConnTimeout: time.Minute,
		DisableCompression: true, ResponseHeaderTimeout: 30 * time.Second,
	}}
}

func (p *pool) close() { p.transport.CloseIdleConnections() }

// load is what a pool does and what came of it. Safe for concurrent use while it runs.
type load struct {
	acked    *bitset      // messages with an accepting answer
	accepted atomic.Int64 // the number of these
	refused  atomic.Int64 // 503: sent again until accepted
	failed   atomic.Int64 // other answers, and no answer: the fate of the message is not known
	next     atomic.Int64
	latency  *latencies // of the publish itself; nil: not recorded

	mu      sync.Mutex
	problem error // the first failure
}

func newLoad(capacity int) *load { return &load{acked: newBitset(capacity)} }

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem == nil {
		l.problem = err
	}
}

func (l *load) firstProblem() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.problem
}

// refusedPause is how long a publisher waits after a 503 when the answer does not say.
const refusedPause = 5 * time.Millisecond

// closedLoop lets every publisher send its next message as soon as the last one is answered, until ctx ends or
// the messages are used up.
func (p *pool) closedLoop(ctx context.Context, to target, l *load, messages int) {
	var wg sync.WaitGroup
	for range p.size {
		wg.Go(func() {
			for ctx.Err() == nil {
				seq := int(l.next.Add(1) - 1)
				if seq >= messages {
					return
				}
				p.publish(ctx, to, l, seq, p.clock.now())
			}
		})
	}
	wg.Wait()
}

// paced schedules so many messages evenly from now on and sends each at its moment, or as soon after it as a publisher is
// free. It returns when all are answered or ctx has ended.
func (p *pool) paced(ctx context.Context, to target, l *load, messages int, rate float64) {
	type job struct {
		seq int
		at  time.Duration
	}
	jobs := make(chan job, messages)
	var wg sync.WaitGroup
	for range p.size {
		wg.Go(func() {
			for j := range jobs {
				p.publish(ctx, to, l, j.seq, j.at)
			}
		})
	}
	start := p.clock.now()
	timer := time.NewTimer(0)
	defer timer.Stop()
schedule:
	for n := range messages {
		at := start + time.Duration(float64(n)/rate*float64(time.Second))
		timer.Reset(at - p.clock.now())
		select {
		case <-timer.C:
			jobs <- job{int(l.next.Add(1) - 1), at}
		case <-ctx.Done():
			break schedule
		}
	}
	close(jobs)
	wg.Wait()
}

// publish sends one message, again after a 503, until it is accepted, failed, or ctx ends.
func (p *pool) publish(ctx context.Context, to target, l *load, seq int, at time.Duration) {
	body := p.messages.body(seq, at)
	for {
		status, err := p.post(ctx, to, body)
		switch {
		case err != nil && ctx.Err() != nil:
			return // cut off by the end of the phase: neither accepted nor failed
		case err != nil:
			l.fail(err)
			return
		case status == to.status:
			l.acked.add(seq)
			l.accepted.Add(1)
			if l.latency != nil {
				l.latency.record(0, at, p.clock.now())
			}
			return
		case status != http.StatusServiceUnavailable:
			l.fail(fmt.Errorf("POST %s was answered %d, expected %d", to.url.Redacted(), status, to.status))
			return
		}
		l.refused.Add(1)
		pause := time.NewTimer(refusedPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// post makes one request. It goes to the transport directly: there are no cookies and no redirects to care for.
func (p *pool) post(ctx context.Context, to target, body []byte) (status int, err error) {
	req := (&http.Request{
		Method: http.MethodPost, URL: to.url, Host: to.url.Host, Header: to.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	// Read to the end, or the connection cannot be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}
