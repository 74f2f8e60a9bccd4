package console

import (
	"fmt"
	"net/http"
	"time"

	"quorumhub/hub"
	"quorumhub/web/view"
)

// phase is a part of a request and how long it took.
type phase struct {
	Name  string
	Took  time.Duration
	Share int // of the whole, in hundredths
}

// sentView is a request that was made on request.
type sentView struct {
	*view.Sent
	Subscription *hub.Subscription
	Latency      time.Duration
	Words        string
	Remedy       string
	Phases       []phase
}

// showSent shows what became of a message that was sent on request.
func (c *Console) showSent(w http.ResponseWriter, r *http.Request, sub *hub.Subscription, sent *view.Sent, what string) {
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	v := sentView{Sent: sent, Subscription: sub, Latency: ms(sent.LatencyMS), Words: reasonWords(sent.Reason, sent.Status), Remedy: remedy(sent.Reason, sent.Status)}
	if p := sent.Phases; p != nil {
		known := p.Lookup + p.Connect + p.TLS + p.Wait
		for _, part := range []struct {
			name string
			ms   float64
		}{{"name lookup", p.Lookup}, {"connection", p.Connect}, {"TLS", p.TLS}, {"waiting for the answer", p.Wait}, {"everything else", max(sent.LatencyMS-known, 0)}} {
			v.Phases = append(v.Phases, phase{part.name, ms(part.ms), int(100 * part.ms / max(sent.LatencyMS, known, 0.001))})
		}
	}
	title := what + " was acknowledged"
	if sent.Outcome != "delivered" {
		title = what + " was not acknowledged"
	}
	lead := fmt.Sprintf("%s sent it to %s: %s.", sent.Node, sub.Callback, v.Words)
	c.write(w, r, http.StatusOK, "sent", c.frame(r, "subscriptions", &content{Title: title, Lead: lead,
		Crumbs: []crumb{{"/subscriptions", "Subscriptions"}, {subscriptionPath(sub.ID), sub.ID.String()}}, Data: v}))
}
