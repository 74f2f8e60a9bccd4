package web

import (
	"context"
	"net/http"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// askDelivery bounds the request to the node that owns a subscription.
const askDelivery = 2 * time.Second

// delivery asks the owner about a subscription's deliveries.
func (s *Server) delivery(ctx context.Context, id hub.SubscriptionID) (*view.Delivery, error) {
	if s.Deliveries == nil {
		return nil, hub.Errorf(hub.CodeUnavailable, "this node has no information about deliveries")
	}
	ctx, cancel := context.WithTimeout(ctx, askDelivery)
	defer cancel()
	v, err := s.Deliveries.Delivery(ctx, id)
	if err != nil {
		return nil, err
	}
	if v.Attempts == nil {
		v.Attempts = []view.Attempt{}
	}
	delivered, counted := 0, 0
	for i := range v.Attempts {
		a := &v.Attempts[i]
		if a.Outcome == "cancelled" || a.Aside() { // by the hub itself, or by somebody who tries
			continue
		}
		if a.Outcome == "delivered" {
			delivered++
		}
		counted++
	}
	if counted > 0 {
		rate := float64(delivered) / float64(counted)
		v.SuccessRate = &rate
	}
	return v, nil
}

// addDelivery adds to a subscription what the replicated state lacks. If the owner does not answer, it adds the reason.
func (s *Server) addDelivery(ctx context.Context, out *subscriptionDetail, sub *hub.Subscription, head uint64, now time.Time) {
	var err error
	if out.Delivery, err = s.delivery(ctx, sub.ID); err != nil {
		out.DeliveryError = problem.OneLine(err.Error())
	}
	served := sub.Cursor.Offset
	if out.Delivery != nil && out.Delivery.Progress != nil {
		served = max(served, out.Delivery.Progress.Acknowledged)
	}
	if at := s.oldestUndelivered(sub.Topic, served, head); !at.IsZero() {
		out.Oldest, out.OldestAge = moment(at), max(now.Sub(at), 0).Seconds()
	}
}

// oldestUndelivered returns when the message after the one at served was published, or zero if there is none.
func (s *Server) oldestUndelivered(topic hub.TopicID, served, head uint64) time.Time {
	if served >= head {
		return time.Time{}
	}
	msgs, err := s.Messages.Read(topic, served+1, 1, 1)
	if err != nil || len(msgs) == 0 {
		return time.Time{} // dropped by retention just now; the cursor will move on
	}
	return time.Unix(0, msgs[0].Time)
}

// listAttempts shows the last attempts of a subscription, from the node that owns it.
func (s *Server) listAttempts(w http.ResponseWriter, r *http.Request) {
	id, err := subscriptionInPath(r)
	var v *view.Delivery
	if err == nil {
		s.State.View(func(st *hub.State) {
			if sub, ok := st.Subscription(id); !ok || !s.owns(r.Context(), sub.Owner) {
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
		*view.Delivery
	}{id.String(), v})
}
