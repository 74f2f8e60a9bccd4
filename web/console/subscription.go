package console

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// subscriptionView is what the page of one subscription shows.
type subscriptionView struct {
	hub.Subscription
	Row      subscriptionRow
	Head     uint64
	First    uint64
	Sentence string
	// Withheld says why the endpoint is being left alone; empty: it is not.
	Withheld string
	Remedy   string
	Next     time.Time // of the next attempt; zero: none is planned
	Lag      uint64
	Window   int // wanted
	Now      int // in force
	Delivery *view.Delivery
	Unknown  string // why there is none
	Attempts []attemptRow
	Plot     *plot
	Points   []lagPoint
	Mode     string
	Pause    string // reason of a pause
	Scheme   string
	Oldest   time.Time // when the oldest message that waits was published
	Operator bool
	Signs    bool // the viewer may choose the signature method
	Offsets  string
}

// attemptRow is an attempt as the page shows it.
type attemptRow struct {
	view.Attempt
	Message string
	Badge   badge
	Words   string
	Latency time.Duration
}

// lagPoint is a point of the plot of the lag.
type lagPoint struct {
	At  time.Time
	Lag float64 // NaN: unknown
}

func attemptRows(topic hub.TopicID, attempts []view.Attempt) []attemptRow {
	out := make([]attemptRow, 0, len(attempts))
	for _, a := range attempts {
		row := attemptRow{Attempt: a, Words: reasonWords(a.Reason, a.Status), Latency: time.Duration(a.LatencyMS * float64(time.Millisecond)), Badge: badge{stateBad, a.Outcome}}
		if a.Offset > 0 {
			m := hub.Message{Topic: topic, Offset: a.Offset}
			row.Message = m.ID()
		}
		switch a.Outcome {
		case "delivered":
			row.Badge.State = stateGood
		case "cancelled":
			row.Badge.State = stateIdle
		case "down":
			row.Badge.State = stateWarn
		}
		out = append(out, row)
	}
	return out
}

// subscriptionOf returns the subscription that a path names, if the viewer may see it.
func (c *Console) subscriptionOf(ctx context.Context, id string) (sub hub.Subscription, t hub.Topic, err error) {
	n, perr := strconv.ParseUint(strings.TrimPrefix(id, "s-"), 10, 64)
	known := perr == nil && strings.HasPrefix(id, "s-")
	if known {
		c.State.View(func(st *hub.State) {
			if sub, known = st.Subscription(hub.SubscriptionID(n)); known {
				t, _ = st.TopicByID(sub.Topic)
			}
		})
	}
	if !known || !c.Ports.Owns(ctx, sub.Owner) {
		return sub, t, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id",
			Detail: problem.Quote(id) + " is not a subscription of this hub; it may have ended"}
	}
	return sub, t, nil
}

// idInPath returns the part of a page's path after a prefix, up to the next slash.
func idInPath(r *http.Request, prefix string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/console"+prefix), "/")
	return id
}

// Subscription shows one subscription.
func (c *Console) Subscription(w http.ResponseWriter, r *http.Request) {
	id := idInPath(r, "/subscriptions/")
	c.show(w, r, sheet{template: "subscription", section: "subscriptions", fragments: []string{"subscription-state", "subscription-attempts"}, build: func(ctx context.Context) (*content, error) {
		sub, t, err := c.subscriptionOf(ctx, id)
		if err != nil {
			return nil, err
		}
		v := c.viewSubscription(ctx, sub, &t)
		return &content{Title: sub.ID.String(), Lead: sub.Callback, Crumbs: []crumb{{"/subscriptions", "Subscriptions"}, {c.topicPath(sub.TopicName), sub.TopicName}}, Data: v}, nil
	}})
}

func (c *Console) viewSubscription(ctx context.Context, sub hub.Subscription, t *hub.Topic) *subscriptionView {
	now := c.now()
	v := &subscriptionView{Subscription: sub, Head: t.Head, First: t.First, Mode: "ordered", Scheme: sub.Scheme, Window: 1,
		Row: subscriptionRow{ID: sub.ID, Lag: sub.Cursor.Remaining(t.Head), Failures: sub.Cursor.Failures, FailingSince: sub.Cursor.FailingSince, Paused: sub.Paused, Expired: sub.Expired(now)}}
	v.Lag, v.Now = v.Row.Lag, 1
	if v.Scheme == "" {
		v.Scheme = "websub"
	}
	if o := sub.Options; o != nil {
		v.Mode, v.Window = hub.DeliveryModeName(o.Mode), max(o.Window, 1)
	}
	if sub.Paused {
		v.Pause = pauseWords(sub.PauseReason)
	}
	served := sub.Cursor.Offset
	d, err := c.Ports.Delivery(ctx, sub.ID)
	if err != nil {
		v.Unknown = problem.OneLine(err.Error())
	} else {
		v.Delivery, v.Now = d, d.Window
		v.Attempts = attemptRows(sub.Topic, d.Attempts)
		if p := d.Progress; p != nil {
			v.Lag, v.Row.Lag = p.Lag, p.Lag
			served = max(served, p.Acknowledged)
		}
		if d.NextAttempt != nil {
			v.Next = *d.NextAttempt
		}
	}
	v.Oldest = c.publishedAt(t, served+1)
	v.tell(now)
	v.Points = c.lagPoints(v, t, served, now)
	v.Plot = lagPlot(v.Points)
	viewer := c.viewer(ctx)
	v.Operator, v.Signs = viewer.Operator, c.Ports.May(ctx, auth.ActionSubscriptions)
	v.Offsets = fmt.Sprintf("%d to %d", t.First, t.Head+1)
	return v
}

// publishedAt returns when the message at an offset was published; zero: it is not there.
func (c *Console) publishedAt(t *hub.Topic, offset uint64) time.Time {
	if c.Messages == nil || offset < t.First || offset > t.Head {
		return time.Time{}
	}
	msgs, err := c.Messages.Read(t.ID, offset, 1, 1)
	if err != nil || len(msgs) == 0 {
		return time.Time{}
	}
	return time.Unix(0, msgs[0].Time)
}

func pauseWords(r hub.PauseReason) string {
	switch r {
	case hub.PauseOwner:
		return "by its owner"
	case hub.PauseOwnerEnded:
		return "because the credentials of its owner have ended"
	case hub.PauseNotAllowed:
		return "because the rule that allowed it is gone"
	case hub.PauseOperator:
	}
	return "by an operator"
}

// tell says in sentences how the subscription is doing.
func (v *subscriptionView) tell(now time.Time) {
	waiting := "nothing waits"
	switch {
	case v.Lag == 1:
		waiting = "1 message waits"
	case v.Lag > 1:
		waiting = count(v.Lag) + " messages wait"
	}
	switch n := v.Cursor.DeadLetters; {
	case n == 1 && v.Row.Failures > 0:
		waiting += ", and 1 was given up"
	case n > 1 && v.Row.Failures > 0:
		waiting += ", and " + count(n) + " were given up"
	}
	last := v.lastAttempt()
	if last != nil && last.Outcome != "delivered" {
		v.Remedy = remedy(last.Reason, last.Status)
	}
	switch {
	case v.Row.Expired:
		v.Sentence = "Its lease has ended. Nothing is delivered until its subscriber renews it; " + waiting + "."
	case v.Row.Paused:
		v.Sentence = "It is paused " + v.Pause + "; " + waiting + "."
	case v.Row.Failures > 0:
		v.Sentence = fmt.Sprintf("Its deliveries have failed for %s: %s in a row; %s.", spanText(now.Sub(v.Row.Since())), timesText(v.Row.Failures), waiting)
		if last != nil {
			v.Sentence += " At the last one, the callback " + callbackDid(last.Reason, last.Status) + "."
		}
	case v.Lag > 0 && v.Delivery != nil && v.Delivery.State != "idle":
		v.Sentence = "It is being delivered to; " + waiting + "."
	case v.Lag > 0:
		v.Sentence = "Nothing is wrong with it; " + waiting + "."
	default:
		v.Sentence = "All is delivered; nothing waits."
	}
	v.withheld(now)
}

func timesText(n uint64) string {
	if n == 1 {
		return "1 attempt"
	}
	return count(n) + " attempts"
}

// callbackDid ends the sentence "the callback …".
func callbackDid(reason string, status int) string {
	if status != 0 {
		return statusWords(status)
	}
	return "could not be reached: " + reasonWords(reason, status)
}

// withheld says why nothing is sent although messages wait.
func (v *subscriptionView) withheld(now time.Time) {
	d := v.Delivery
	if d == nil || v.Row.Paused || v.Row.Expired {
		return
	}
	switch d.State {
	case "waiting":
		v.Withheld = "The endpoint is left alone until the next attempt"
		if !v.Next.IsZero() {
			v.Withheld += ", which is due in " + spanText(max(v.Next.Sub(now), 0))
		}
		v.Withheld += ": the wait grows with every failure in a row."
	case "blocked":
		v.Withheld = "It waits for its turn: as many requests as may be in flight to its host are (delivery.host_concurrency)."
	case "settling":
		v.Withheld = "What became of its last message is being written to the log."
	case "releasing":
		v.Withheld = "Another node is about to take it over."
	}
	if v.Now < v.Window {
		v.Withheld = strings.TrimSpace(v.Withheld + fmt.Sprintf(" Its window is narrowed from %d to %d messages in flight, because it was overloaded (429 or no answer in time); it widens as deliveries succeed.", v.Window, v.Now))
	}
}

// lastAttempt returns the newest of its own attempts that says something about the endpoint.
func (v *subscriptionView) lastAttempt() *attemptRow {
	for i := range v.Attempts {
		if a := &v.Attempts[i]; !a.Aside() && a.Outcome != "cancelled" {
			return a
		}
	}
	return nil
}

// The plot of the lag covers an hour.
const (
	lagSpan  = time.Hour
	lagSteps = 60
)

// lagPoints reconstructs the lag of the last hour. When messages were published is known from the log; how far the subscription was is
// known since the oldest attempt that is remembered or, as nothing moves meanwhile, since its deliveries began to fail.
func (c *Console) lagPoints(v *subscriptionView, t *hub.Topic, served uint64, now time.Time) []lagPoint {
	type mark struct {
		at     time.Time
		served uint64 // from at on
	}
	marks := []mark{}
	for i := range slices.Backward(v.Attempts) {
		a := &v.Attempts[i]
		if !a.Aside() && a.Outcome == "delivered" {
			marks = append(marks, mark{a.At.Add(a.Latency), a.Offset})
		}
	}
	known := time.Time{} // from when on served is known
	if len(marks) > 0 {
		known = marks[0].at
	}
	if since := v.Row.Since(); !since.IsZero() && (known.IsZero() || len(marks) > 0 && marks[len(marks)-1].at.Before(since)) {
		marks = append(marks, mark{since, served})
		if known.IsZero() {
			known = since
		}
	}
	out := make([]lagPoint, 0, lagSteps+1)
	for i := range lagSteps {
		at := now.Add(-lagSpan + time.Duration(i)*lagSpan/lagSteps)
		p := lagPoint{at, math.NaN()}
		if !known.IsZero() && !at.Before(known) {
			upTo := uint64(0)
			for _, m := range marks {
				if !m.at.After(at) {
					upTo = max(upTo, m.served)
				}
			}
			if next, err := c.Ports.OffsetAt(t.ID, at); err == nil {
				p.Lag = float64(next - 1 - min(upTo, next-1))
			}
		}
		out = append(out, p)
	}
	return append(out, lagPoint{now, float64(v.Lag)})
}

// lagPlot draws the lag. Its end is always known.
func lagPlot(points []lagPoint) *plot {
	p := &plot{Label: "Messages that wait", From: "an hour ago", To: "now", Series: []series{{Name: "lag"}}, Unit: func(v float64) string { return count(uint64(v)) }}
	for _, pt := range points {
		p.Series[0].Values = append(p.Series[0].Values, pt.Lag)
	}
	return p
}

// Known returns the points at which the lag is known, the newest first, every few minutes.
func (v *subscriptionView) Known() (out []lagPoint) {
	for i := len(v.Points) - 1; i >= 0; i -= 5 {
		if p := v.Points[i]; !math.IsNaN(p.Lag) {
			out = append(out, p)
		}
	}
	return out
}

// Text returns the lag for people.
func (p *lagPoint) Text() string { return count(uint64(p.Lag)) }
