package console

import (
	"fmt"
	"net/http"
	"strings"

	"quorumhub/hub"
)

// actOn reads the form of an act on a subscription, and finds it. Otherwise it has answered.
func (c *Console) actOn(w http.ResponseWriter, r *http.Request) (sub hub.Subscription, t hub.Topic, ok bool) {
	if !c.readForm(w, r) {
		return sub, t, false
	}
	sub, t, err := c.subscriptionOf(r.Context(), idInPath(r, "/subscriptions/"))
	if err == nil && !c.Service.MayManage(r.Context(), sub.Owner) {
		err = hub.Errorf(hub.CodeNotFound, "%s is not yours", sub.ID)
	}
	if err != nil {
		c.fail(w, r, err)
		return sub, t, false
	}
	return sub, t, true
}

func subscriptionPath(id hub.SubscriptionID) string { return "/subscriptions/" + id.String() }

// finish leads back to a page after an act, or says what went wrong.
func (c *Console) finish(w http.ResponseWriter, r *http.Request, err error, to, text string) {
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.done(w, to, text)
}

// PauseSubscription and ResumeSubscription stop and resume the deliveries of a subscription.
func (c *Console) PauseSubscription(w http.ResponseWriter, r *http.Request) { c.setPaused(w, r, true) }

// ResumeSubscription resumes what PauseSubscription has stopped.
func (c *Console) ResumeSubscription(w http.ResponseWriter, r *http.Request) {
	c.setPaused(w, r, false)
}

func (c *Console) setPaused(w http.ResponseWriter, r *http.Request, paused bool) {
	sub, _, ok := c.actOn(w, r)
	if !ok {
		return
	}
	text := "Its deliveries go on where they stopped."
	if paused {
		text = "Nothing is delivered until it is resumed. It keeps its place, and its lease goes on."
	}
	c.finish(w, r, c.Service.Pause(r.Context(), sub.ID, paused), subscriptionPath(sub.ID), text)
}

// RewindSubscription moves the cursor of a subscription. First it says how many messages that would be.
func (c *Console) RewindSubscription(w http.ResponseWriter, r *http.Request) {
	sub, t, ok := c.actOn(w, r)
	if !ok {
		return
	}
	text := strings.TrimSpace(r.PostForm.Get("to"))
	to, err := hub.ParsePosition("to", text)
	var would hub.Rewind
	if err == nil {
		would, err = c.Ports.Rewind(r.Context(), sub.ID, to, true)
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	ask := confirm{Title: "Move " + sub.ID.String() + " to " + text, Button: "Move it", Back: subscriptionPath(sub.ID),
		Lead: fmt.Sprintf("It goes on with message %s. %s sent again, and %s skipped.", count(would.From), messagesAre(would.Again), messagesAre(would.Skipped))}
	ask.Facts = append(ask.Facts, fmt.Sprintf("The topic has the messages %s to %s.", count(t.First), count(t.Head)))
	if sub.Group != 0 {
		ask.Facts = append(ask.Facts, "It moves its whole consumer group.")
	}
	if would.Skipped > 0 {
		ask.Danger, ask.Name = true, sub.ID.String()
		ask.Facts = append(ask.Facts, "What is skipped is not delivered to it any more, unless it is moved back.")
	}
	if !c.confirmed(w, r, "subscriptions", ask) {
		return
	}
	done, err := c.Ports.Rewind(r.Context(), sub.ID, to, false)
	c.finish(w, r, err, subscriptionPath(sub.ID), fmt.Sprintf("It goes on with message %s: %s sent again, %s skipped.", count(done.From), messagesAre(done.Again), messagesAre(done.Skipped)))
}

func messagesAre(n uint64) string {
	switch n {
	case 0:
		return "no message is"
	case 1:
		return "1 message is"
	}
	return count(n) + " messages are"
}

// EndSubscription ends a subscription.
func (c *Console) EndSubscription(w http.ResponseWriter, r *http.Request) {
	sub, t, ok := c.actOn(w, r)
	if !ok || !c.confirmed(w, r, "subscriptions", confirm{Title: "End " + sub.ID.String(), Name: sub.ID.String(), Danger: true, Back: subscriptionPath(sub.ID), Button: "End it",
		Lead: fmt.Sprintf("%s not delivered any more. %s is told (hub.mode=denied), and has to subscribe again.", messagesAre(sub.Cursor.Remaining(t.Head)), sub.Callback)}) {
		return
	}
	c.finish(w, r, c.Service.End(r.Context(), sub.ID), "/subscriptions", sub.ID.String()+" has ended, and its callback is told.")
}

// SignSubscription sets the signature method of a subscription.
func (c *Console) SignSubscription(w http.ResponseWriter, r *http.Request) {
	sub, _, ok := c.actOn(w, r)
	if !ok {
		return
	}
	method := r.PostForm.Get("method")
	text := "From now on it is signed with " + method + "."
	if method == "" {
		text = "From now on it is signed as its subscriber asked for, or with the hub's default."
	}
	c.finish(w, r, c.Service.SetSignature(r.Context(), sub.ID, method), subscriptionPath(sub.ID), text)
}

// SetHeaders sets the headers that a subscription's callback demands: those for all callbacks with its address. They go in, and never
// come out.
func (c *Console) SetHeaders(w http.ResponseWriter, r *http.Request) {
	sub, _, ok := c.actOn(w, r)
	if !ok {
		return
	}
	name, value := strings.TrimSpace(r.PostForm.Get("name")), r.PostForm.Get("value")
	back := subscriptionPath(sub.ID)
	if name == "" {
		if !c.confirmed(w, r, "subscriptions", confirm{Title: "Remove the headers of " + sub.ID.String(), Back: back, Button: "Remove them",
			Lead: "Requests to " + sub.Callback + " carry no more headers than other requests do."}) {
			return
		}
		c.finish(w, r, c.Service.RemoveCallbackCredentials(r.Context(), sub.Callback, c.viewer(r.Context()).Name), back, "Its headers are removed.")
		return
	}
	_, err := c.Service.SetCallbackCredentials(r.Context(), sub.Callback, hub.Credentials{Headers: map[string]string{name: value}}, c.viewer(r.Context()).Name)
	c.finish(w, r, err, back, "Requests to this callback carry "+name+" from now on, in place of the headers that were set before.")
}

// TestSubscription sends a test message to a subscription, and shows what becomes of it.
func (c *Console) TestSubscription(w http.ResponseWriter, r *http.Request) {
	sub, _, ok := c.actOn(w, r)
	if !ok {
		return
	}
	sent, err := c.Ports.Test(r.Context(), sub.ID, strings.TrimSpace(r.PostForm.Get("content_type")), r.PostForm.Get("body"))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.showSent(w, r, &sub, sent, "A test message")
}

// RedeliverMessage sends one message to a subscription once more, and shows what becomes of it.
func (c *Console) RedeliverMessage(w http.ResponseWriter, r *http.Request) {
	sub, _, ok := c.actOn(w, r)
	if !ok {
		return
	}
	sent, err := c.Ports.Redeliver(r.Context(), sub.ID, strings.TrimSpace(r.PostForm.Get("message")))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.showSent(w, r, &sub, sent, "Message "+sent.MessageID)
}
