package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// subscriptionItem is a subscription in a list. It never contains the secret (invariant I10).
type subscriptionItem struct {
	ID             string     `json:"id"`
	Topic          string     `json:"topic"`
	Callback       string     `json:"callback"`
	State          string     `json:"state"`
	Node           string     `json:"node"`
	LeaseExpiresAt *time.Time `json:"lease_expires_at"`
	Cursor         uint64     `json:"cursor"`
	Lag            uint64     `json:"lag"`
	Mode           string     `json:"mode"`
	Owner          string     `json:"owner,omitempty"`
	PauseReason    string     `json:"pause_reason,omitempty"` // if it is paused
	Encrypted      bool       `json:"encrypted,omitempty"`    // deliveries are, to the subscriber's key
}

// deliveryOptions are the options a subscriber chose; zero means the hub's default.
type deliveryOptions struct {
	Window               int     `json:"window"`
	Key                  string  `json:"key"`
	ConsumerGroup        string  `json:"consumer_group"`
	Rate                 float64 `json:"rate"`
	RetryMaxAttempts     int     `json:"retry_max_attempts"`
	RetryRefusedAttempts int     `json:"retry_refused_attempts"`
	RetryMaxAge          int64   `json:"retry_max_age"`
	RetryMaxInterval     int64   `json:"retry_max_interval"`
	RetrySchedule        []int64 `json:"retry_schedule"`
}

func optionsOf(o *hub.Options) deliveryOptions {
	if o == nil || *o == (hub.Options{}) {
		return deliveryOptions{Window: 1, RetrySchedule: []int64{}}
	}
	waits := []int64{}
	for _, w := range o.Waits() {
		waits = append(waits, int64(w/time.Second))
	}
	return deliveryOptions{Window: max(o.Window, 1), Key: o.Key, ConsumerGroup: o.Group, Rate: o.Rate, RetryMaxAttempts: o.MaxAttempts,
		RetryRefusedAttempts: o.RefusedAttempts, RetryMaxAge: int64(o.MaxAge / time.Second), RetryMaxInterval: int64(o.MaxInterval / time.Second),
		RetrySchedule: waits}
}

func modeOfDelivery(o *hub.Options) string {
	if o == nil {
		return modeOrdered
	}
	return hub.DeliveryModeName(o.Mode)
}

// subscriptionDetail is everything known about a subscription.
type subscriptionDetail struct {
	subscriptionItem
	TopicURL     string     `json:"topic_url"`
	LeaseSeconds int64      `json:"lease_seconds"`
	CreatedAt    *time.Time `json:"created_at"`
	RenewedAt    *time.Time `json:"renewed_at"`
	Signed       bool       `json:"signed"`
	Signature    string     `json:"signature"`
	// OperatorSignature is set if an operator chose Signature.
	OperatorSignature string     `json:"operator_signature,omitempty"`
	Scheme            string     `json:"signature_scheme"`
	Delivered         uint64     `json:"delivered"`
	Failures          uint64     `json:"failures"`
	Attempts          uint32     `json:"attempts"`
	FailingSince      *time.Time `json:"failing_since"`
	Gap               uint64     `json:"gap"`
	DeadLetters       uint64     `json:"dead_letters"`
	// Oldest is when the oldest undelivered message was published; null if there is none.
	Oldest        *time.Time     `json:"oldest_undelivered_at"`
	OldestAge     float64        `json:"oldest_undelivered_seconds"`
	Delivery      *view.Delivery `json:"delivery"` // null if the owner does not answer
	DeliveryError string         `json:"delivery_error,omitempty"`
	// Ahead counts messages after the cursor that were acknowledged out of order.
	Ahead   uint64          `json:"ahead"`
	Options deliveryOptions `json:"options"`
}

const (
	statePending = "pending"
	stateActive  = "active"
	statePaused  = "paused"
	stateExpired = "expired"
	modeOrdered  = "ordered"
)

func (s *Server) activeItem(sub *hub.Subscription, head uint64, now time.Time) subscriptionItem {
	item := subscriptionItem{ID: sub.ID.String(), Topic: sub.TopicName, Callback: sub.Callback, State: stateActive,
		Node: s.Node.Owner(sub.ID), LeaseExpiresAt: moment(sub.ExpiresAt), Cursor: sub.Cursor.Offset, Lag: sub.Cursor.Remaining(head), Mode: modeOfDelivery(sub.Options), Encrypted: sub.EncryptionKey != ""}
	item.Owner = sub.Owner
	if sub.Paused {
		item.State, item.PauseReason = statePaused, hub.PauseReasonName(sub.PauseReason)
	}
	if sub.Expired(now) {
		item.State, item.Node = stateExpired, ""
	}
	return item
}

func pendingItem(r *hub.Request) subscriptionItem {
	return subscriptionItem{ID: r.ID.String(), Topic: r.TopicName, Callback: r.Callback, State: statePending, Mode: modeOfDelivery(&r.Options), Owner: r.Owner}
}

// listSubscriptions lists the subscriptions, followed by the requests for new ones that await verification: an operator's list has all,
// unless mine=true, and other principals' their own.
func (s *Server) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	q, values, err := s.parseList(r, "sr", "topic", "callback", "mine")
	if err == nil {
		q.owner, q.all, err = s.listedOwner(r.Context(), values)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	now := s.Clock.Now()
	var subs []hub.Subscription
	var heads []uint64
	var pending []hub.Request
	want := q.limit + 1
	s.State.View(func(st *hub.State) {
		if q.kind != 'r' {
			subs = s.matching(st, &q, want)
			for i := range subs {
				heads = append(heads, st.Head(subs[i].Topic))
			}
		}
		if len(subs) < want {
			var after hub.RequestID
			if q.kind == 'r' {
				after = hub.RequestID(q.after)
			}
			pending = st.Requests(after, want-len(subs), func(r *hub.Request) bool {
				if r.Mode != hub.ModeSubscribe || !q.all && r.Owner != q.owner || q.topic != "" && r.TopicName != q.topic || q.callbackKey != "" && r.CallbackKey != q.callbackKey {
					return false
				}
				sub, ok := st.SubscriptionByKey(r.TopicName, r.CallbackKey)
				return !ok || sub.Expired(now) // otherwise it is a renewal of a listed subscription
			})
		}
	})
	out := page[subscriptionItem]{Items: []subscriptionItem{}}
	for i := range subs {
		out.Items = append(out.Items, s.activeItem(&subs[i], heads[i], now))
	}
	for i := range pending {
		out.Items = append(out.Items, pendingItem(&pending[i]))
	}
	if len(out.Items) > q.limit {
		out.Items = out.Items[:q.limit]
		out.Next = out.Items[q.limit-1].ID
	}
	writeJSON(w, http.StatusOK, out)
}

// matching finds subscriptions by key if the query names one, and else by walking over all.
func (s *Server) matching(st *hub.State, q *listQuery, limit int) []hub.Subscription {
	after := hub.SubscriptionID(q.after)
	if q.topic != "" && q.callbackKey != "" {
		if sub, ok := st.SubscriptionByKey(q.topic, q.callbackKey); ok && sub.ID > after && (q.all || sub.Owner == q.owner) {
			return []hub.Subscription{sub}
		}
		return nil
	}
	if !q.all {
		return ownedBy(st, q, after, limit)
	}
	if q.topic != "" {
		return st.SubscriptionsOf(q.topic, after, limit)
	}
	return st.Subscriptions(after, limit, func(sub *hub.Subscription) bool {
		return q.callbackKey == "" || sub.CallbackKey == q.callbackKey
	})
}

// listedOwner returns whose things a list shows: an operator's those of all unless mine is true.
func (s *Server) listedOwner(ctx context.Context, values url.Values) (owner string, all bool, err error) {
	owner, all = s.onlyOwner(ctx)
	switch values.Get("mine") {
	case "", "false":
	case "true":
		all = false
	default:
		err = hub.ParamErrorf("mine", "is %s; expected true or false", problem.Quote(values.Get("mine")))
	}
	return owner, all, err
}

// ownedBy finds subscriptions of one owner.
func ownedBy(st *hub.State, q *listQuery, after hub.SubscriptionID, limit int) (out []hub.Subscription) {
	for len(out) < limit && q.owner != "" {
		some := st.OwnedBy(q.owner, after, maxLimit)
		for i := range some {
			sub := &some[i]
			after = sub.ID
			if len(out) < limit && (q.topic == "" || sub.TopicName == q.topic) && (q.callbackKey == "" || sub.CallbackKey == q.callbackKey) {
				out = append(out, *sub)
			}
		}
		if len(some) < maxLimit {
			break
		}
	}
	return out
}

// getSubscription shows one subscription (s-17) or pending request (r-17).
func (s *Server) getSubscription(w http.ResponseWriter, r *http.Request) {
	s.showSubscription(w, r, strings.TrimPrefix(r.URL.Path, "/v1/subscriptions/"))
}

func (s *Server) showSubscription(w http.ResponseWriter, r *http.Request, id string) {
	kind, n, ok := parseID(id)
	var out subscriptionDetail
	now := s.Clock.Now()
	switch {
	case ok && kind == 's':
		var sub hub.Subscription
		var head uint64
		s.State.View(func(st *hub.State) {
			if sub, ok = st.Subscription(hub.SubscriptionID(n)); ok {
				head = st.Head(sub.Topic)
			}
		})
		if ok = ok && s.owns(r.Context(), sub.Owner); ok {
			out = subscriptionDetail{subscriptionItem: s.activeItem(&sub, head, now), LeaseSeconds: sub.LeaseSeconds,
				CreatedAt: moment(sub.CreatedAt()), RenewedAt: moment(sub.RenewedAt), Signed: len(sub.SealedSecret) > 0,
				Signature: sub.SignatureMethod(), OperatorSignature: sub.OperatorSignature, Scheme: schemeName(sub.Scheme), Delivered: sub.Cursor.Delivered, Failures: sub.Cursor.Failures,
				Attempts: sub.Cursor.Attempts, Gap: sub.Cursor.Gap, DeadLetters: sub.Cursor.DeadLetters, Options: optionsOf(sub.Options)}
			out.Ahead = sub.Cursor.Ahead()
			if since := sub.Cursor.FailingSince; since != 0 {
				out.FailingSince = moment(time.Unix(0, since))
			}
			s.addDelivery(r.Context(), &out, &sub, head, now)
		}
	case ok && kind == 'r':
		var req hub.Request
		s.State.View(func(st *hub.State) { req, ok = st.Request(hub.RequestID(n)) })
		if ok = ok && req.Mode == hub.ModeSubscribe && s.owns(r.Context(), req.Owner); ok {
			out = subscriptionDetail{subscriptionItem: pendingItem(&req), LeaseSeconds: req.LeaseSeconds,
				CreatedAt: moment(req.RequestedAt), Signed: len(req.SealedSecret) > 0, Signature: req.Signature, Scheme: schemeName(req.Scheme), Options: optionsOf(&req.Options)}
		}
	default:
		ok = false
	}
	if !ok {
		s.fail(w, r, noSubscription(id))
		return
	}
	out.TopicURL = s.Service.Namer().URL(out.Topic)
	writeJSON(w, http.StatusOK, out)
}

// schemeName returns a signature scheme as hub.signature_scheme spells it.
func schemeName(scheme string) string {
	if scheme == "" {
		return "websub"
	}
	return scheme
}
