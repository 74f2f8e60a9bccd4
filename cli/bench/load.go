package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// target is where publishers post to. The status 200 means accepted.
type target struct {
	url      string
	endpoint *delivery.Endpoint
	rotate   []target // if set, message seq goes to rotate[seq%len(rotate)]
}

// of returns the target of message seq.
func (t target) of(seq int) target {
	if len(t.rotate) == 0 {
		return t
	}
	return t.rotate[seq%len(t.rotate)]
}

func newTarget(raw string) (target, error) {
	e, err := (&delivery.Pusher{UserAgent: "quorumhub-bench"}).NewEndpoint(raw, nil)
	return target{url: raw, endpoint: e}, err
}

// pool is a set of publishers with one keep-alive connection each. They use the hub's own client for deliveries, which costs a third of
// net/http's: publishers compete with the hub for the processors, and a raw limit measured with a slow client would flatter the hub.
type pool struct {
	size     int
	poster   poster
	problem  error // why there is no poster
	clock    stopwatch
	messages messages
}

func newPool(size int, clock stopwatch) *pool {
	p := &pool{size: size, clock: clock, messages: newMessages()}
	lean, err := newLeanPoster(size)
	if p.problem = err; err == nil {
		p.poster = lean
	}
	return p
}

func (p *pool) close() {
	if p.poster != nil {
		p.poster.close()
	}
}

// load counts what a pool has sent and the results. It is safe for concurrent use.
type load struct {
	acked    *bitset      // accepted messages
	accepted atomic.Int64 // the number of accepted messages
	refused  atomic.Int64 // 503 responses, after which a message is sent again
	failed   atomic.Int64 // other responses or none: the message may or may not have been published
	next     atomic.Int64
	latency  *latencies // of publishing; nil if not recorded

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

// refusedPause is how long a publisher waits after a 503.
const refusedPause = 5 * time.Millisecond

// closedLoop makes every publisher send its next message as soon as it gets the response to the last, until ctx ends or all messages
// are sent.
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

// paced schedules messages at a constant rate and sends each at its time, or as soon afterwards as a publisher is free. It returns when
// all have a response or ctx has ended.
func (p *pool) paced(ctx context.Context, to target, l *load, messages int, rate float64) {
	type job struct {
		seq int
		at  time.Duration
	}
	all, cancel := context.WithTimeout(ctx, time.Duration(float64(messages)/rate*float64(time.Second))+answersWithin)
	defer cancel()
	jobs := make(chan job, messages)
	var wg sync.WaitGroup
	for range p.size {
		wg.Go(func() {
			for j := range jobs {
				p.publish(all, to, l, j.seq, j.at)
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
	if all.Err() != nil && ctx.Err() == nil {
		l.fail(fmt.Errorf("some publishes got no response within %v", answersWithin))
	}
}

// answersWithin is how long responses may take after the end of a schedule.
const answersWithin = 30 * time.Second

// publish sends one message, and again after each 503, until it is accepted, fails, or ctx ends.
func (p *pool) publish(ctx context.Context, to target, l *load, seq int, at time.Duration) {
	body := p.messages.body(seq, at)
	to = to.of(seq)
	for {
		status, err := 0, p.problem
		if err == nil {
			status, err = p.poster.post(ctx, to, body)
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return // the phase is over: neither accepted nor failed
		case err != nil:
			l.fail(err)
			return
		case status == http.StatusOK:
			l.acked.add(seq)
			l.accepted.Add(1)
			if l.latency != nil {
				l.latency.record(0, at, p.clock.now())
			}
			return
		case status != http.StatusServiceUnavailable:
			l.fail(fmt.Errorf("POST %s: got status %d, expected 200", to.url, status))
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

// poster sends one request and returns the status of the response. close closes its connections.
type poster interface {
	post(ctx context.Context, to target, body []byte) (status int, err error)
	close()
}

// leanPoster posts with the hub's own client for deliveries.
type leanPoster struct{ pusher *delivery.Pusher }

func newLeanPoster(connections int) (*leanPoster, error) {
	policy, err := egress.NewPolicy(egress.PolicyOptions{Mode: egress.ModeDevLoopback})
	if err != nil {
		return nil, err
	}
	client := egress.NewClient(policy, egress.ClientOptions{MaxIdlePerHost: connections})
	return &leanPoster{&delivery.Pusher{Clock: hub.SystemClock{}, Client: client}}, nil
}

func (p *leanPoster) post(ctx context.Context, to target, body []byte) (int, error) {
	res := p.pusher.Push(ctx, to.endpoint, delivery.Content{Body: body, ContentType: "application/json"})
	if res.Status == 0 {
		return 0, fmt.Errorf("POST %s: no response (%s)", to.url, res.Reason)
	}
	return res.Status, nil
}

func (p *leanPoster) close() { p.pusher.Client.(*egress.Client).Close() }

// plainPoster posts with net/http's client, as most Go programs do and as other projects measure.
type plainPoster struct{ client *http.Client }

func newPlainPoster(connections int) *plainPoster {
	return &plainPoster{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}}}
}

func (p *plainPoster) post(ctx context.Context, to target, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}

func (p *plainPoster) close() { p.client.CloseIdleConnections() }
