package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"quorumhub/test/hubtest"
)

// Subscription is a callback of a topic, managed by its subscriber through crashes of the hub.
type Subscription struct {
	Name     string
	Topic    string // URL
	Callback string
	Secret   string
	Terms    Terms

	// Rest is the minimum time that Churn waits after an unsubscribe.
	Rest time.Duration

	hub    SubscribeClient
	ledger *Ledger
}

// SubscribeClient is what a subscriber sends its requests through: a node, or a Roamer over several.
type SubscribeClient interface {
	// Send is that of hubtest.Node.
	Send(method, target string, header http.Header, body io.Reader) (*hubtest.Reply, error)
	// ListSubscriptions is that of hubtest.Node.
	ListSubscriptions(topic, callback string) ([]hubtest.Subscription, error)
}

// Begin subscribes and waits until the hub lists the subscription as active.
func (s *Subscription) Begin(ctx context.Context) (*Episode, error) {
	s.ledger.SetTerms(s.Name, s.Terms)
	e := s.ledger.Subscribing(s.Name, s.Topic)
	if err := s.ask(ctx, "subscribe"); err != nil {
		return e, err
	}
	active := func(found *hubtest.Subscription) bool { return found != nil && found.State == "active" }
	if _, err := s.await(ctx, active); err != nil {
		return e, fmt.Errorf("%s did not become active: %w", s.Name, err)
	}
	s.ledger.Edit(func() { e.Active = time.Now() })
	return e, nil
}

// Settle waits up to within for the subscription to receive everything acknowledged by now, and records
// whether it did.
func (s *Subscription) Settle(ctx context.Context, e *Episode, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	last := s.ledger.LastAcknowledged(s.Topic)
	there := func(found *hubtest.Subscription) bool { return found != nil && found.Cursor >= last }
	if _, err := s.await(ctx, there); err == nil {
		s.ledger.Edit(func() { e.Settled = last })
	}
}

// Finish unsubscribes and waits until the hub no longer lists the subscription.
func (s *Subscription) Finish(ctx context.Context, e *Episode) error {
	s.ledger.Edit(func() { e.EndAsked = time.Now() })
	if err := s.ask(ctx, "unsubscribe"); err != nil {
		return err
	}
	gone := func(found *hubtest.Subscription) bool { return found == nil || found.State == "expired" }
	if _, err := s.await(ctx, gone); err != nil {
		return fmt.Errorf("%s did not end: %w", s.Name, err)
	}
	s.ledger.Edit(func() { e.Gone = time.Now() })
	return nil
}

// ask repeats a request until the hub accepts it.
func (s *Subscription) ask(ctx context.Context, mode string) error {
	form := []string{"hub.mode", mode, "hub.topic", s.Topic, "hub.callback", s.Callback}
	if mode == "subscribe" {
		form = append(form, s.Terms.form()...)
		if s.Secret != "" {
			form = append(form, "hub.secret", s.Secret)
		}
	}
	last := errors.New("no attempt")
	for ctx.Err() == nil {
		reply, err := s.hub.Send(http.MethodPost, "/hub", hubtest.Headers("Content-Type", hubtest.FormType), strings.NewReader(hubtest.Form(form...)))
		switch {
		case err != nil:
			last = err
		case reply.Status == http.StatusAccepted:
			return nil
		case reply.Status/100 == 4:
			return fmt.Errorf("%s %s: got %v, want 202", mode, s.Name, reply)
		default:
			last = fmt.Errorf("got %v", reply)
		}
		wait(ctx, downPause)
	}
	return fmt.Errorf("%s %s: %w; last: %w", mode, s.Name, ctx.Err(), last)
}

// await polls the hub until want accepts the subscription; nil stands for one that is not listed.
func (s *Subscription) await(ctx context.Context, want func(*hubtest.Subscription) bool) (*hubtest.Subscription, error) {
	var last error
	for ctx.Err() == nil {
		found, err := s.hub.ListSubscriptions(s.Topic, s.Callback)
		if err == nil {
			var one *hubtest.Subscription
			for i := range found {
				if one == nil || found[i].State != "pending" {
					one = &found[i]
				}
			}
			if want(one) {
				return one, nil
			}
			err = fmt.Errorf("the hub lists %+v", found)
		}
		last = err
		wait(ctx, downPause)
	}
	return nil, fmt.Errorf("%w; last: %w", ctx.Err(), last)
}

// Churn subscribes and unsubscribes until stop is closed, and leaves the subscription active.
func (s *Subscription) Churn(ctx context.Context, stop <-chan struct{}, r *rand.Rand) error {
	for {
		e, err := s.Begin(ctx)
		if err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(100+r.IntN(900)) * time.Millisecond):
		}
		if r.IntN(2) == 0 {
			s.Settle(ctx, e, 300*time.Millisecond)
		}
		if err := s.Finish(ctx, e); err != nil {
			return err
		}
		wait(ctx, s.Rest+time.Duration(r.IntN(100))*time.Millisecond)
	}
}
