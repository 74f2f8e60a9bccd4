package chaos

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"quorumhub/test/hubtest"
)

// Roamer is a client of several nodes. It stays with one node as long as that node answers; after a 503 or no
// answer its next request goes to the next node, unless stay is set.
type Roamer struct {
	nodes []*hubtest.Node
	at    atomic.Int64
	stay  bool
}

// Roam returns a client that starts with node first.
func Roam(nodes []*hubtest.Node, first int, stay bool) *Roamer {
	r := &Roamer{nodes: nodes, stay: stay}
	r.at.Store(int64(first % len(nodes)))
	return r
}

func (r *Roamer) node() (*hubtest.Node, int64) {
	at := r.at.Load()
	return r.nodes[at], at
}

// leave moves on from a node that did not serve. Of several requests that failed at one node, only the first
// moves on.
func (r *Roamer) leave(at int64) {
	if !r.stay {
		r.at.CompareAndSwap(at, (at+1)%int64(len(r.nodes)))
	}
}

// TryPublish implements PublishClient.
func (r *Roamer) TryPublish(topic, contentType string, body []byte, more ...string) (hubtest.Ack, error) {
	n, at := r.node()
	ack, err := n.TryPublish(topic, contentType, body, more...)
	var refused *hubtest.RefusedError
	if err != nil && !(errors.As(err, &refused) && refused.Reply.Status/100 == 4) {
		r.leave(at)
	}
	return ack, err
}

// Send implements SubscribeClient.
func (r *Roamer) Send(method, target string, header http.Header, body io.Reader) (*hubtest.Reply, error) {
	n, at := r.node()
	reply, err := n.Send(method, target, header, body)
	if err != nil || reply.Status/100 == 5 {
		r.leave(at)
	}
	return reply, err
}

// ListSubscriptions implements SubscribeClient.
func (r *Roamer) ListSubscriptions(topic, callback string) ([]hubtest.Subscription, error) {
	n, at := r.node()
	found, err := n.ListSubscriptions(topic, callback)
	if err != nil {
		r.leave(at)
	}
	return found, err
}

// Once is a publisher's client that gives up on a message when every node has refused it in turn, without a
// pause. A rolling restart must not require more of a client than that.
type Once struct {
	Roamer *Roamer
	failed atomic.Int64
	worst  atomic.Int64 // ns
}

// TryPublish implements PublishClient. It needs an Idempotency-Key, because a request without an answer is
// repeated.
func (o *Once) TryPublish(topic, contentType string, body []byte, more ...string) (ack hubtest.Ack, err error) {
	began := time.Now()
	defer func() {
		for took := int64(time.Since(began)); ; {
			old := o.worst.Load()
			if took <= old || o.worst.CompareAndSwap(old, took) {
				return
			}
		}
	}()
	var errs []error
	for range o.Roamer.nodes {
		ack, err = o.Roamer.TryPublish(topic, contentType, body, more...)
		if err == nil {
			return ack, nil
		}
		errs = append(errs, err)
	}
	o.failed.Add(1)
	return ack, fmt.Errorf("every node refused: %w", errors.Join(errs...))
}

// Failed returns how many messages were given up; Worst returns how long the slowest took with all its
// attempts.
func (o *Once) Failed() int64        { return o.failed.Load() }
func (o *Once) Worst() time.Duration { return time.Duration(o.worst.Load()) }
