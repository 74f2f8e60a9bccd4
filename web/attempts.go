package web

import (
	"context"
	"net/http"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// askDelivery bounds the question to the node that delivers a subscription.
const askDelivery = 2 * time.Second

// delivery asks how the deliveries to a subscription go.
func (s *Server) delivery(ctx context.Context, id hub.SubscriptionID) (*DeliveryView, error) {
	if s.Deliveries == nil {
		return nil, hub.Errorf(hub.CodeUnavailable, "this node knows nothing of deliveries")
	}
	ctx, cancel := context.WithTimeout(ctx, askDelivery)
	defer cancel()
	v, err := s.Deliveries.Delivery(ctx, id)
	if err != nil {
		return nil, err
	}
	if v.Attempts == nil {
		v.Attempts = []DeliveryTry{}
	}
	delivered, said := 0, 0
	for i := range v.Attempts {
		switch v.Attempts[i].Outcome {
		case "cancelled": // by the hub itself: it says nothing
			continue
		case "delivered":
			delivered++
		}
		said++
	}
	if said > 0 {
		rate := float64(delivered) / float64(said)
		v.SuccessRate = &rate
	}
	return v, nil
}

// addDelivery adds to a subscription what is not in the state. What cannot be had is said, and the rest shown.
func (s *Server) addDelivery(ctx context.Context, out *subscriptionDetail, sub *hub.Subscription, head uint64, now time.Time) {
	if at := s.oldestUndelivered(sub, head); !at.IsZero() {
		out.Oldest, out.OldestAge = moment(at), max(now.Sub(at), 0).Seconds()
	}
	var err error
	if out.Delivery, err = s.delivery(ctx, sub.ID); err != nil {
		out.DeliveryError = problem.OneLine(err.Error())
	}
}

// oldestUndelivered is when the message behind the cursor was published, zero when there is none.
func (s *Server) oldestUndelivered(sub *hub.Subscription, head uint64) time.Time {
	if sub.Cursor.Offset >= head {
		return time.Time{}
	}
	msgs, err := s.Messages.Read(sub.Topic, sub.Cursor.Offset+1, 1, 1)
	if err != nil || len(msgs) == 0 {
		return time.Time{} // dropped by retention just now: the cursor moves on
	}
	return time.Unix(0, msgs[0].Time)
}

// listAttempts shows the last attempts of one subscription, from whichever node makes them.
func (s *Server) listAttempts(w http.ResponseWriter, r *http.Request) {
	id, err := subscriptionInPath(r)
	var v *DeliveryView
	if err == nil {
		s.State.View(func(st *hub.State) {
			if _, ok := st.Subscription(id); !ok {
				err = noSubscription(id.String())
			}
		})
	}
	if err == nil {
		v, err = s.delivery(r.Context(), id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Subscription string `json:"subscription"`
		*DeliveryView
	}{id.String(), v})
}
