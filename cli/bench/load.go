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

// target is where publishers post to, and what answer counts as accepted.
type target struct {
	url      string
	endpoint *delivery.Endpoint
	status   int
	rotate   []target // if set: message seq goes to number seq%len
}

// of is where message seq goes.
func (t target) of(seq int) target {
	if len(t.rotate) == 0 {
		return t
	}
	return t.rotate[seq%len(t.rotate)]
}

func newTarget(raw string, status int) (target, error) {
	e, err := (&delivery.Pusher{UserAgent: "quorumhub-bench"}).NewEndpoint(raw, nil)
	return target{url: raw, endpoint: e, status: status}, err
}

// pool is a set of publishers with a kept-alive connection each. They use the hub's own client for deliveries, which
// costs a third of net/http's: what publishers need is missing to the hub on the same processors, and a raw limit
// measured with a slow client would flatter the hub.
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
		l.fail(fmt.Errorf("some publishes were not answered within %v", answersWithin))
	}
}

// answersWithin is how long the answers to a schedule may take beyond its end.
const answersWithin = 30 * time.Second

// publish sends one message, again after a 503, until it is accepted, failed, or ctx ends.
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
			l.fail(fmt.Errorf("POST %s was answered %d, expected %d", to.url, status, to.status))
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

// poster makes one request and returns the status of its answer. close ends its connections.
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
		return 0, fmt.Errorf("POST %s: no answer (%s)", to.url, res.Reason)
	}
	return res.Status, nil
}

func (p *leanPoster) close() { p.pusher.Client.(*egress.Client).Close() }

// plainPoster posts with net/http's client, as most programs in Go do, and as the figures of other senders were measured.
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
