package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"quorumhub/hub"
)

// Subscribers are the endpoints. They confirm every request, and answer deliveries now and then late or with an error.
type Subscribers struct {
	world *World
	hold  atomic.Bool // deliveries are not answered
	clean atomic.Bool // no errors and no slow answers
	seen  atomic.Pointer[func(from *process, sub *subscription)]
}

// reply is how an endpoint treats a request.
type reply struct {
	there, back time.Duration // before it arrives, and until its answer does
	status      int
}

func (s *Subscribers) reply(sub, size int) reply {
	seed := s.world.settings.Seed
	rng := rand.New(rand.NewPCG(seed, draw(seed, uint64(time.Now().UnixNano()), uint64(sub), uint64(size))))
	r := reply{there: time.Duration(rng.Int64N(int64(2 * time.Millisecond))), back: time.Duration(rng.Int64N(int64(2 * time.Millisecond))), status: http.StatusOK}
	switch k := rng.IntN(1000); {
	case s.clean.Load():
	case k < 5:
		r.status = http.StatusServiceUnavailable
	case k < 10:
		r.back += time.Duration(rng.Int64N(int64(12 * time.Second)))
	}
	return r
}

// serve is a request on its way to an endpoint and back.
func (s *Subscribers) serve(from *process, req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	i, err := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/"))
	if err != nil || i >= len(s.world.ledger.subs) {
		return nil, fmt.Errorf("nobody is at %s", req.URL)
	}
	r := s.reply(i, len(body))
	if err := pause(req.Context(), r.there); err != nil {
		return nil, err
	}
	if from.ended.Load() {
		return nil, errGone
	}
	if req.Method == http.MethodGet {
		return response(req, http.StatusOK, []byte(req.URL.Query().Get("hub.challenge"))), nil
	}
	sub := s.world.ledger.subs[i]
	p := placeOf(req.Header.Get("X-Hub-Message-Id"))
	s.world.ledger.arrives(from, sub, p, nameOf(body), from.epochOf(sub.callback))
	if seen := s.seen.Load(); seen != nil {
		(*seen)(from, sub)
	}
	for s.hold.Load() && err == nil {
		err = pause(req.Context(), 5*time.Millisecond)
	}
	if err == nil {
		s.world.ledger.answered(sub, p, r.status == http.StatusOK)
		err = pause(req.Context(), r.back)
	}
	s.world.ledger.over(from, sub, p, err == nil && r.status == http.StatusOK)
	if err != nil {
		return nil, err
	}
	return response(req, r.status, nil), nil
}

// watch has f called for every delivery that arrives.
func (s *Subscribers) watch(f func(from *process, sub *subscription)) { s.seen.Store(&f) }

// epochOf is the epoch under which the process owns a subscription, 0 when it does not.
func (p *process) epochOf(callback string) (epoch uint64) {
	p.store.View(func(s *hub.State) {
		for _, sub := range s.Subscriptions(0, 0, nil) {
			if sub.Callback == callback && sub.Assignment.Node == p.node.id {
				epoch = sub.Assignment.Epoch
			}
		}
	})
	return epoch
}

func placeOf(id string) place {
	topic, offset, _ := strings.Cut(id, "-")
	t, _ := strconv.ParseUint(topic, 10, 64) // what is no number is at no place, and the ledger says so
	o, _ := strconv.ParseUint(offset, 10, 64)
	return place{hub.TopicID(t), o}
}

func response(req *http.Request, status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: req}
}

// pause sleeps for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
