package hubtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Reply is a response of the hub, read to its end.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
	Took   time.Duration
}

func (r *Reply) String() string {
	return fmt.Sprintf("%d %s %q", r.Status, r.Header.Get("Content-Type"), tail(string(r.Body), 5))
}

// Ack is what a publisher learned about an accepted message.
type Ack struct {
	Topic       string // URL
	ID          string // X-Hub-Message-Id
	Offset      uint64 // the part of ID after the last "-"
	ContentType string
	Body        []byte
}

// FormType is the content type of WebSub requests.
const FormType = "application/x-www-form-urlencoded"

// HubURL returns the URL of the hub endpoint.
func (n *Node) HubURL() string { return n.URL + "/hub" }

// TopicURL returns the URL of a topic that the hub hosts.
func (n *Node) TopicURL(name string) string { return n.URL + "/topics/" + url.PathEscape(name) }

// Send sends one request to the hub and follows no redirect. The target is a path with an optional query, or
// a complete URL.
func (n *Node) Send(method, target string, header http.Header, body io.Reader) (*Reply, error) {
	if strings.HasPrefix(target, "/") {
		target = n.URL + target
	}
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if n.Key != "" && req.Header.Get("X-Api-Key") == "" {
		req.Header.Set("X-Api-Key", n.Key)
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	start := time.Now()
	resp, err := n.client.Do(req)
	if err != nil {
		return nil, err
	}
	content, readErr := io.ReadAll(resp.Body)
	if err := errors.Join(readErr, resp.Body.Close()); err != nil {
		return nil, err
	}
	return &Reply{resp.StatusCode, resp.Header, content, time.Since(start)}, nil
}

// Do is Send for a request that must be answered.
func (n *Node) Do(tb testing.TB, method, target string, header http.Header, body []byte) *Reply {
	tb.Helper()
	reply, err := n.Send(method, target, header, bytes.NewReader(body))
	if err != nil {
		tb.Fatalf("%s %s: %v", method, target, err)
	}
	return reply
}

// Headers returns a header made of alternating names and values.
func Headers(namesAndValues ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		h.Add(namesAndValues[i], namesAndValues[i+1])
	}
	return h
}

// PostForm posts an encoded form to the hub endpoint.
func (n *Node) PostForm(tb testing.TB, form string) *Reply {
	tb.Helper()
	return n.Do(tb, http.MethodPost, "/hub", Headers("Content-Type", FormType), []byte(form))
}

// Request posts a subscribe or unsubscribe request. More parameters are alternating names and values.
func (n *Node) Request(tb testing.TB, mode, topic, callback string, more ...string) *Reply {
	tb.Helper()
	return n.PostForm(tb, Form(append([]string{"hub.mode", mode, "hub.topic", topic, "hub.callback", callback}, more...)...))
}

// Subscribe sends a request that must be accepted, and waits until the subscription is active.
func (n *Node) Subscribe(tb testing.TB, topic, callback string, more ...string) Subscription {
	tb.Helper()
	if reply := n.Request(tb, "subscribe", topic, callback, more...); reply.Status != http.StatusAccepted {
		tb.Fatalf("subscribe %s to %s: got %v, want 202", callback, topic, reply)
	}
	return n.WaitActive(tb, topic, callback)
}

// Unsubscribe sends a request that must be accepted, and waits until the subscription is gone.
func (n *Node) Unsubscribe(tb testing.TB, topic, callback string) {
	tb.Helper()
	if reply := n.Request(tb, "unsubscribe", topic, callback); reply.Status != http.StatusAccepted {
		tb.Fatalf("unsubscribe %s from %s: got %v, want 202", callback, topic, reply)
	}
	n.WaitGone(tb, topic, callback)
}

// Publish sends a fat publish that must be accepted.
func (n *Node) Publish(tb testing.TB, topic, contentType string, body []byte, more ...string) Ack {
	tb.Helper()
	ack, err := n.TryPublish(topic, contentType, body, more...)
	if err != nil {
		tb.Fatal(err)
	}
	return ack
}

// PublishTarget returns the path and query of a fat publish.
func PublishTarget(topic string) string {
	return "/hub?" + Form("hub.mode", "publish", "hub.topic", topic)
}

// TryPublish is Publish for tests in which the hub may be down. More headers are alternating names and
// values. Apart from a *RefusedError, its errors do not say whether the hub took the message.
func (n *Node) TryPublish(topic, contentType string, body []byte, more ...string) (Ack, error) {
	h := Headers(more...)
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	reply, err := n.Send(http.MethodPost, PublishTarget(topic), h, bytes.NewReader(body))
	if err != nil {
		return Ack{}, fmt.Errorf("publish to %s: %w", topic, err)
	}
	return AckOf(topic, contentType, body, reply)
}

// RefusedError is the response to a publish that was not accepted.
type RefusedError struct{ Reply *Reply }

func (e *RefusedError) Error() string {
	return "publish: got " + e.Reply.String() + ", want 200 hub.mode=accepted"
}

// AckOf parses the acknowledgement of a fat publish.
func AckOf(topic, contentType string, body []byte, reply *Reply) (Ack, error) {
	accepted := false
	for _, p := range Params(strings.TrimSpace(string(reply.Body))) {
		accepted = accepted || p == Param{"hub.mode", "accepted"}
	}
	if reply.Status != http.StatusOK || !accepted {
		return Ack{}, &RefusedError{reply}
	}
	id := reply.Header.Get("X-Hub-Message-Id")
	offset, err := OffsetOf(id)
	if err != nil {
		return Ack{}, fmt.Errorf("publish to %s was accepted, but %w", topic, err)
	}
	return Ack{Topic: topic, ID: id, Offset: offset, ContentType: contentType, Body: bytes.Clone(body)}, nil
}

// OffsetOf returns the offset in a message ID "<topic id>-<offset>".
func OffsetOf(id string) (uint64, error) {
	i := strings.LastIndexByte(id, '-')
	offset, err := strconv.ParseUint(id[i+1:], 10, 64)
	if i <= 0 || err != nil || offset == 0 {
		return 0, fmt.Errorf("X-Hub-Message-Id is %q, want <topic id>-<offset from 1>", id)
	}
	return offset, nil
}

// Ping announces new content of topics to the hub, which must answer 204.
func (n *Node) Ping(tb testing.TB, topics ...string) {
	tb.Helper()
	form := []string{"hub.mode", "publish"}
	for _, topic := range topics {
		form = append(form, "hub.url", topic)
	}
	if reply := n.PostForm(tb, Form(form...)); reply.Status != http.StatusNoContent {
		tb.Fatalf("ping for %v: got %v, want 204", topics, reply)
	}
}

// Register registers a topic at the hub.
func (n *Node) Register(tb testing.TB, topic string) {
	tb.Helper()
	if reply := n.PostForm(tb, Form("hub.mode", "register", "hub.topic", topic)); reply.Status != http.StatusOK {
		tb.Fatalf("register %s: got %v, want 200", topic, reply)
	}
}

// GetJSON reads a document of the admin API into out and returns its raw body.
func (n *Node) GetJSON(tb testing.TB, target string, out any) []byte {
	tb.Helper()
	body, err := n.getJSON(target, out)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func (n *Node) getJSON(target string, out any) ([]byte, error) {
	reply, err := n.Send(http.MethodGet, target, nil, nil)
	if err != nil {
		return nil, err
	}
	if reply.Status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: got %v, want 200", target, reply)
	}
	if err := json.Unmarshal(reply.Body, out); err != nil {
		return nil, fmt.Errorf("GET %s: %w in %s", target, err, reply.Body)
	}
	return reply.Body, nil
}
