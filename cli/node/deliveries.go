package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/store"
	"quorumhub/web/view"
)

// deliveries shows how a subscription's deliveries are doing, asking the owner if that is another node. It implements view.Deliveries.
type deliveries struct {
	id         string
	dispatcher *delivery.Dispatcher
	sender     *delivery.Sender
	store      *store.Store
	ask        func(ctx context.Context, node string, question []byte) ([]byte, error)
}

// deliveryQuestion is what a node asks a subscription's owner.
type deliveryQuestion struct {
	Subscription hub.SubscriptionID `json:"subscription"`
}

// Delivery implements view.Deliveries.
func (d *deliveries) Delivery(ctx context.Context, id hub.SubscriptionID) (*view.Delivery, error) {
	owner, err := d.owner(id)
	switch {
	case err != nil:
		return nil, err
	case owner == d.id:
		return d.here(id)
	}
	question, err := json.Marshal(deliveryQuestion{id})
	if err != nil {
		return nil, err
	}
	answer, err := d.ask(ctx, owner, question)
	if err != nil {
		return nil, err
	}
	v := new(view.Delivery)
	if err := json.Unmarshal(answer, v); err != nil {
		return nil, fmt.Errorf("response of %s: %w", owner, err)
	}
	return v, nil
}

// owner returns the node that delivers a subscription.
func (d *deliveries) owner(id hub.SubscriptionID) (owner string, err error) {
	d.store.View(func(s *hub.State) {
		sub, _ := s.Subscription(id)
		owner = sub.Assignment.Node
	})
	if owner == "" {
		err = hub.Errorf(hub.CodeUnavailable, "no node owns %s at the moment; try again shortly", id)
	}
	return owner, err
}

// answer answers another node's question.
func (d *deliveries) answer(question []byte) ([]byte, error) {
	var q deliveryQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	v, err := d.here(q.Subscription)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (d *deliveries) here(id hub.SubscriptionID) (*view.Delivery, error) {
	lane, ok := d.dispatcher.Lane(id)
	h, known := d.dispatcher.History(id)
	if !ok || !known {
		return nil, hub.Errorf(hub.CodeUnavailable, "%s is changing its owner; try again shortly", id)
	}
	v := &view.Delivery{Node: d.id, State: lane.State, Total: h.Total, Failed: h.Failed, Window: lane.Window, Progress: &view.Progress{
		Acknowledged: lane.Offset, Ahead: lane.Ahead, Lag: lane.Remaining, Head: lane.Head, Delivered: lane.Delivered}}
	if !lane.NextAttempt.IsZero() {
		at := lane.NextAttempt.UTC()
		v.NextAttempt = &at
	}
	for i := range h.Attempts {
		t := &h.Attempts[i]
		v.Attempts = append(v.Attempts, view.Attempt{At: t.At.UTC(), Offset: t.Offset, Outcome: t.Outcome.String(), Status: t.Status,
			LatencyMS: float64(t.Latency) / float64(time.Millisecond), Reason: string(t.Reason), Kind: t.Kind.String()})
	}
	return v, nil
}
