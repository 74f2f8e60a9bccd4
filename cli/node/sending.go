package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/web/view"
)

// sendPoll is how often the node that waits for the outcome of a request looks for it.
const sendPoll = 50 * time.Millisecond

// sendCall is a question to a subscription's owner: to make one request, or what became of it. Either is answered at once, since nodes
// do not wait for each other's answers for as long as a callback may take.
type sendCall struct {
	Send sendQuestion `json:"send"`
}

type sendQuestion struct {
	Begin  *view.Sending `json:"begin,omitempty"`
	Ticket uint64        `json:"ticket,omitempty"`
}

// sendAnswer answers it: with a ticket until it is done, with what became of it, or with what is wrong.
type sendAnswer struct {
	Ticket     uint64        `json:"ticket,omitempty"`
	Sent       *view.Sent    `json:"sent,omitempty"`
	Code       hub.Code      `json:"code,omitempty"`
	Param      string        `json:"param,omitempty"`
	Error      string        `json:"error,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
}

// Send implements view.Deliveries.
func (d *deliveries) Send(ctx context.Context, o view.Sending) (*view.Sent, error) {
	owner, err := d.owner(o.Subscription)
	if err != nil {
		return nil, err
	}
	q := sendQuestion{Begin: &o}
	for {
		a, err := d.askToSend(ctx, owner, q)
		switch {
		case err != nil:
			return nil, err
		case a.Error != "":
			return nil, &hub.Error{Code: a.Code, Param: a.Param, Message: a.Error, RetryAfter: a.RetryAfter}
		case a.Sent != nil:
			return a.Sent, nil
		}
		q = sendQuestion{Ticket: a.Ticket}
		select {
		case <-ctx.Done():
			return nil, hub.Errorf(hub.CodeUnavailable, "the message was sent, and its callback has not responded yet; see the subscription's attempts")
		case <-time.After(sendPoll):
		}
	}
}

func (d *deliveries) askToSend(ctx context.Context, owner string, q sendQuestion) (*sendAnswer, error) {
	if owner == d.id {
		return d.send(&q), nil
	}
	question, err := json.Marshal(sendCall{q})
	if err != nil {
		return nil, err
	}
	text, err := d.ask(ctx, owner, question)
	if err != nil {
		return nil, err
	}
	a := new(sendAnswer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("response of %s: %w", owner, err)
	}
	if a.Ticket == 0 && a.Sent == nil && a.Error == "" { // an older program takes it for another question
		return nil, hub.Errorf(hub.CodeUnavailable, "%s runs an older version of quorumhub, which sends nothing on request", owner)
	}
	return a, nil
}

// answerSend answers another node's question.
func (d *deliveries) answerSend(question []byte) ([]byte, error) {
	var call sendCall
	if err := json.Unmarshal(question, &call); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	return json.Marshal(d.send(&call.Send))
}

// send begins to make a request, or tells what became of one.
func (d *deliveries) send(q *sendQuestion) *sendAnswer {
	if q.Begin != nil {
		ticket, err := d.sender.Send(delivery.Sending{Subscription: q.Begin.Subscription, Offset: q.Begin.Offset, ContentType: q.Begin.ContentType, Body: q.Begin.Body})
		if err != nil {
			return refusedToSend(err)
		}
		return &sendAnswer{Ticket: ticket}
	}
	sent, ok := d.sender.Sent(q.Ticket)
	switch {
	case !ok:
		return &sendAnswer{Code: hub.CodeUnavailable, Error: "the node that sent the message has started again, and does not know what became of it"}
	case !sent.Done:
		return &sendAnswer{Ticket: q.Ticket}
	}
	return &sendAnswer{Sent: sentView(d.id, &sent)}
}

func refusedToSend(err error) *sendAnswer {
	var e *hub.Error
	if errors.As(err, &e) {
		return &sendAnswer{Code: e.Code, Param: e.Param, Error: e.Message, RetryAfter: e.RetryAfter}
	}
	return &sendAnswer{Code: hub.CodeInternal, Error: err.Error()}
}

func sentView(node string, sent *delivery.Sent) *view.Sent {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	r := &sent.Result
	v := &view.Sent{Node: node, MessageID: sent.MessageID, Size: sent.Size, Header: []view.Field{},
		Attempt: view.Attempt{At: sent.At.UTC(), Outcome: r.Outcome.String(), Status: r.Status, LatencyMS: ms(r.Latency), Reason: string(r.Reason), Kind: sent.Kind.String()}}
	if r.Status != 0 {
		v.Phases = &view.Phases{Lookup: ms(sent.Phases.Lookup), Connect: ms(sent.Phases.Connect), TLS: ms(sent.Phases.TLS), Wait: ms(sent.Phases.Wait)}
	}
	for _, f := range sent.Header {
		v.Header = append(v.Header, view.Field(f))
	}
	return v
}
