package web_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// behind opens a stream whose reader takes nothing, and publishes until far more is owed to it than the connection holds.
func (r *running) behind(t *testing.T) net.Conn {
	t.Helper()
	slow := r.dial(t)
	if err := slow.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(slow, "GET /topics/news?start=earliest HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
	r.awaitMetric(t, "quorumhub_streams", "1")
	for range 60 {
		r.publish(t, "news", strings.Repeat("x", 200<<10))
	}
	return slow
}

// A node that stops does not wait for readers that are far behind.
func TestSlowStreamReadersDoNotDelayTheStop(t *testing.T) {
	r := start(t, func(rules *hub.Policy, o *web.Options) {
		rules.MaxMessageBytes, o.StreamWriteTimeout, o.StopGrace = 1<<20, 2*patience, 2*patience
	})
	r.publish(t, "news", "m1")
	r.behind(t)
	begin := time.Now()
	r.cancel()
	select {
	case err := <-r.served:
		if err != nil {
			t.Errorf("the stop was not orderly: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the stop waits for the reader")
	}
	t.Logf("stopped after %v", time.Since(begin))
}

// A stream ends within a heartbeat of the loss of its right, whether its reader is idle, busy or slow.
func TestStreamsEndWithTheirRights(t *testing.T) {
	for _, kind := range []string{"idle", "busy", "slow"} {
		t.Run(kind, func(t *testing.T) {
			var refuse atomic.Bool
			r := start(t, func(rules *hub.Policy, o *web.Options) {
				rules.MaxMessageBytes, o.StreamWriteTimeout, o.StreamHeartbeat = 1<<20, 2*patience, 50*time.Millisecond
				rules.Authorize = func(_ context.Context, a hub.Action, _ string) error {
					if a == hub.ActionRead && refuse.Load() {
						return hub.Errorf(hub.CodeForbidden, "revoked")
					}
					return nil
				}
			})
			r.publish(t, "news", "m1")
			ended := `quorumhub_streams_ended_total{reason="forbidden"}`
			if kind == "slow" {
				r.behind(t)
				refuse.Store(true)
				r.awaitMetric(t, ended, "1")
				return
			}
			rd := r.follow(t, "/topics/news?start=earliest")
			rd.next(t)
			if kind == "busy" {
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					for ctx.Err() == nil {
						r.send("POST", "/topics/news", "more")
					}
				}()
				defer func() { stop(); <-done }()
			}
			refuse.Store(true)
			all := rd.rest(t)
			if last := all[len(all)-1]; last.kind != "end" || last.data != `{"reason":"forbidden"}` {
				t.Errorf("the stream ended with %+v", last)
			}
			r.awaitMetric(t, ended, "1")
		})
	}
}
