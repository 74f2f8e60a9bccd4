package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// open lets the network stand in for a *delivery.Client.
type open struct {
	*network
	policy *delivery.Policy
}

func (o open) Policy() *delivery.Policy { return o.policy }

type fetcherRig struct {
	*engine
	net *network
	f   *delivery.Fetcher
	o   delivery.FetcherOptions
}

func fetching(t *testing.T, behave func(url string, nth int, body string) answer, f func(r *fetcherRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &fetcherRig{engine: newEngine(t), net: newNetwork(behave)}
		r.o = delivery.FetcherOptions{
			Reader: &delivery.TopicReader{Client: open{r.net, policy(t, delivery.PolicyOptions{})}, Clock: hub.SystemClock{},
				UserAgent: "quorumhub/test", Timeout: 5 * time.Second, MaxBytes: 1000},
			Namer: namer(t), State: r.engine, Proposer: r.engine, Leadership: r.engine, Log: quiet(), Attempts: 3,
		}
		r.start()
		f(r)
		r.f.Close()
	})
}

func (r *fetcherRig) start() {
	r.f = delivery.NewFetcher(r.o)
	r.observe(r.f)
	r.f.Start(context.Background())
}

func (r *fetcherRig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *fetcherRig) ping(topic string) {
	r.do(&hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: topic, AutoRegister: true}}})
}

// messages are the bodies published so far.
func (r *fetcherRig) messages(topic string) string {
	t := r.topic(topic)
	msgs, err := r.Read(t.ID, 1, 1000, 1<<20)
	if err != nil {
		r.t.Error(err)
	}
	var out []string
	for _, m := range msgs {
		out = append(out, string(m.Body))
	}
	return strings.Join(out, " ")
}

const feed = "https://feed.example/atom"

func TestPingFetchesAndPublishes(t *testing.T) {
	fetching(t, func(string, int, string) answer {
		return answer{body: "<feed/>", header: http.Header{"Content-Type": {"application/atom+xml; charset=utf-8"}, "Etag": {`"1"`},
			"Link": {`<https://feed.example/canonical>; rel=self`}}}
	}, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		r.ping(feed)
		r.after(time.Second)
		msgs, _ := r.Read(1, 1, 10, 1000)
		if len(msgs) != 1 || string(msgs[0].Body) != "<feed/>" || msgs[0].ContentType != "application/atom+xml; charset=utf-8" ||
			msgs[0].LinkSelf != "https://feed.example/canonical" {
			t.Errorf("published %+v", msgs)
		}
		if tp := r.topic(feed); tp.ETag != `"1"` || tp.FetchedPing != 1 {
			t.Errorf("topic %+v", tp)
		}
	})
}

// TestUnchangedContentIsNotDistributed, whether the server says so or sends the same again.
func TestUnchangedContentIsNotDistributed(t *testing.T) {
	fetching(t, func(_ string, nth int, _ string) answer {
		etag := http.Header{"Etag": {`"1"`}, "Last-Modified": {"Wed, 21 Oct 2015 07:28:00 GMT"}}
		return []answer{{body: "1", header: etag}, {status: 304}, {body: "1", header: etag}, {body: "2"}, {body: "1"}}[nth-1]
	}, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		for range 5 {
			r.ping(feed)
			r.after(time.Second)
		}
		if got := r.messages(feed); got != "1 2 1" {
			t.Errorf("published %q, want %q", got, "1 2 1")
		}
		for i, a := range r.net.to(feed) {
			conditional := a.header.Get("If-None-Match") == `"1"` && a.header.Get("If-Modified-Since") != ""
			if conditional != (i >= 1 && i <= 3) {
				t.Errorf("fetch %d: header %v", i+1, a.header)
			}
		}
	})
}

func TestNothingIsFetchedWithoutSubscribers(t *testing.T) {
	fetching(t, ok200, func(r *fetcherRig) {
		r.ping(feed)
		r.after(time.Minute)
		id := r.subscribe(want{topic: feed, callback: cb})
		r.leader.Store(false)
		r.ping(feed)
		r.end(id, hubpb.EndReason_END_UNSUBSCRIBED)
		r.leader.Store(true)
		r.after(time.Minute)
		if n := len(r.net.to(feed)); n != 0 {
			t.Errorf("%d fetches", n)
		}
		if tp := r.topic(feed); tp.Ping != tp.FetchedPing {
			t.Errorf("ping %d, answered %d", tp.Ping, tp.FetchedPing)
		}
	})
}

// TestPingDuringAFetchCausesOneMore: what was published after the first request began is not missed, and
// many pings are one.
func TestPingDuringAFetchCausesOneMore(t *testing.T) {
	var content atomic.Int32
	content.Store(1)
	fetching(t, func(string, int, string) answer {
		return answer{body: fmt.Sprint(content.Load()), after: 2 * time.Second}
	}, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		r.ping(feed)
		r.after(time.Second)
		for i := range 10 {
			content.Store(int32(i + 2))
			r.ping(feed)
		}
		r.after(time.Minute)
		if got, n := r.messages(feed), len(r.net.to(feed)); got != "1 11" || n != 2 {
			t.Errorf("published %q in %d fetches, want %q in 2", got, n, "1 11")
		}
		if tp := r.topic(feed); tp.FetchedPing != 11 {
			t.Errorf("answered up to ping %d", tp.FetchedPing)
		}
	})
}

func TestFetchRetriesThenRecordsTheFailure(t *testing.T) {
	var up atomic.Bool
	fetching(t, func(_ string, nth int, _ string) answer {
		if up.Load() {
			return answer{body: "x"}
		}
		return []answer{{status: 503}, {err: errRefused}, {hang: true}}[nth-1]
	}, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		r.ping(feed)
		r.after(time.Hour)
		if tp := r.topic(feed); len(r.net.to(feed)) != 3 || tp.FetchError != "timeout" || tp.FetchedPing != 1 {
			t.Errorf("%d fetches, topic %+v", len(r.net.to(feed)), tp)
		}
		up.Store(true)
		r.ping(feed)
		r.after(time.Minute)
		if tp := r.topic(feed); r.messages(feed) != "x" || tp.FetchError != "" {
			t.Errorf("published %q, topic %+v", r.messages(feed), tp)
		}
	})
}

func TestDefiniteFetchFailureIsNotRetried(t *testing.T) {
	fetching(t, func(string, int, string) answer { return answer{status: 404} }, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		r.subscribe(want{topic: "hosted", callback: cb})
		r.subscribe(want{topic: "http://10.0.0.1/", callback: cb})
		for _, topic := range []string{feed, "hosted", "http://10.0.0.1/"} {
			r.ping(topic)
		}
		r.after(time.Hour)
		if n := len(r.net.arrivals); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		for topic, want := range map[string]string{feed: "http-status", "hosted": "bad-url", "http://10.0.0.1/": "forbidden-address"} {
			if got := r.topic(topic).FetchError; got != want {
				t.Errorf("%s: %q, want %q", topic, got, want)
			}
		}
	})
}

// TestUnansweredPingsResumeAfterARestart: a ping that was acknowledged leads to a fetch, crash or not.
func TestUnansweredPingsResumeAfterARestart(t *testing.T) {
	var up atomic.Bool
	fetching(t, func(string, int, string) answer { return answer{body: "x", hang: !up.Load()} }, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		r.ping(feed)
		r.after(time.Second)
		r.f.Close()
		r.forget()
		up.Store(true)
		r.start()
		r.after(time.Second)
		if got := r.messages(feed); got != "x" {
			t.Errorf("published %q", got)
		}
	})
}

// TestFetchDoesNotLeaveHTTPS: content that was promised over TLS is not taken from anywhere else.
func TestFetchDoesNotLeaveHTTPS(t *testing.T) {
	fetching(t, func(url string, _ int, _ string) answer {
		if url == feed {
			return answer{status: 302, header: http.Header{"Location": {"http://feed.example/plain"}}}
		}
		return answer{body: "x"}
	}, func(r *fetcherRig) {
		r.subscribe(want{topic: feed, callback: cb})
		r.ping(feed)
		r.after(time.Minute)
		if tp := r.topic(feed); tp.FetchError != "redirect" || tp.Head != 0 || len(r.net.arrivals) != 1 {
			t.Errorf("topic %+v after %d requests", tp, len(r.net.arrivals))
		}
	})
}

func TestFetcherCloseWithoutStart(*testing.T) {
	delivery.NewFetcher(delivery.FetcherOptions{}).Close()
}
