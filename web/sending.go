package web

import (
	"context"
	"mime"
	"net/http"
	"time"
	"unicode/utf8"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

const (
	// sendTime bounds the wait for what becomes of a message that is sent on request.
	sendTime = 35 * time.Second
	// maxTestBytes is the longest body of a test message.
	maxTestBytes = 32 << 10
)

// askAgain makes a pending or failed request once more. The answer names the new one.
func (s *Server) askAgain(w http.ResponseWriter, r *http.Request) {
	id, err := requestInPath(r)
	var again hub.RequestID
	if err == nil {
		again, err = s.Service.AskAgain(r.Context(), id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set(requestHeader, again.String())
	writeJSON(w, http.StatusAccepted, struct {
		ID       string `json:"id"`
		Replaces string `json:"replaces"`
	}{again.String(), id.String()})
}

// send has the owner of a subscription that the caller may manage make one request to its callback.
func (s *Server) send(ctx context.Context, o view.Sending) (*view.Sent, error) {
	if err := s.Service.CheckManaged(ctx, o.Subscription); err != nil {
		return nil, err
	}
	if s.Deliveries == nil {
		return nil, hub.Errorf(hub.CodeUnavailable, "this node sends nothing to callbacks")
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return s.Deliveries.Send(ctx, o)
}

// redeliver sends one message of its topic to a subscription, which must be the caller's or the caller an operator.
func (s *Server) redeliver(ctx context.Context, id hub.SubscriptionID, message string) (*view.Sent, error) {
	if err := s.Service.CheckManaged(ctx, id); err != nil {
		return nil, err
	}
	topic, offset, ok := parseMessageID(message)
	if !ok {
		return nil, hub.ParamErrorf("message_id", "is %s; expected the ID of a message such as 3-17", problem.Quote(message))
	}
	var sub hub.Subscription
	s.State.View(func(st *hub.State) { sub, _ = st.Subscription(id) })
	if sub.Topic != topic {
		return nil, hub.ParamErrorf("message_id", "is %s, which is not a message of the subscription's topic %s", problem.Quote(message), problem.Quote(sub.TopicName))
	}
	auth.Note(ctx, "message", message)
	return s.send(ctx, view.Sending{Subscription: id, Offset: offset})
}

// redeliverMessage sends a message once more: {"message_id": "3-17"}. The answer says what became of it.
func (s *Server) redeliverMessage(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"message_id": "3-17"}`
	var in struct {
		Message string `json:"message_id"`
	}
	id, err := subscriptionInPath(r)
	if err == nil {
		err = s.readJSON(w, r, maxShortJSONBytes, &in, expected)
	}
	var sent *view.Sent
	if err == nil {
		sent, err = s.redeliver(r.Context(), id, in.Message)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, sent)
}

// sendTest sends a test message to a subscription. Without a body there is one that says what it is.
func (s *Server) sendTest(ctx context.Context, id hub.SubscriptionID, contentType, body string) (*view.Sent, error) {
	if err := s.Service.CheckManaged(ctx, id); err != nil {
		return nil, err
	}
	switch {
	case len(body) > maxTestBytes:
		return nil, hub.Errorf(hub.CodeTooLarge, "body: is %d bytes long; a test message has at most %d", len(body), maxTestBytes)
	case !utf8.ValidString(body):
		return nil, hub.ParamErrorf("body", "is not text")
	case body == "" && contentType == "":
		contentType = "application/json"
		body = `{"test":true,"subscription":"` + id.String() + `","sent_at":"` + s.Clock.Now().UTC().Format(time.RFC3339) + `","from":"quorumhub"}`
	case contentType == "":
		contentType = "text/plain; charset=utf-8"
	}
	if _, _, err := mime.ParseMediaType(contentType); err != nil || len(contentType) > 255 {
		return nil, hub.ParamErrorf("content_type", "is %s; expected a media type such as application/json", problem.Quote(contentType))
	}
	return s.send(ctx, view.Sending{Subscription: id, ContentType: contentType, Body: []byte(body)})
}

// testSubscription sends a test message: {} or {"content_type": "application/json", "body": "…"}. The answer says what became of it.
func (s *Server) testSubscription(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"content_type": "text/plain", "body": "hello"}, or {} for a message of the hub's`
	var in struct {
		ContentType string `json:"content_type"`
		Body        string `json:"body"`
	}
	id, err := subscriptionInPath(r)
	if err == nil {
		err = s.readJSON(w, r, 6*maxTestBytes+maxShortJSONBytes, &in, expected) // as JSON may escape it
	}
	var sent *view.Sent
	if err == nil {
		sent, err = s.sendTest(r.Context(), id, in.ContentType, in.Body)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, sent)
}
