package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/fetch"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// open lets the network stand in for an *egress.Client.
type open struct {
	*fake.Network
	policy *egress.Policy
}

func (o open) Policy() *egress.Policy { return o.policy }

type fetcherRig struct {
	*fake.Engine
	net *fake.Network
	f   *fetch.Fetcher
	o   fetch.Options
}

func fetching(t *testing.T, behave func(url string, nth int, body string) fake.Answer, f func(r *fetcherRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &fetcherRig{Engine: fake.NewEngine(t), net: fake.NewNetwork(behave)}
		r.o = fetch.Options{
			Reader: &fetch.Reader{Client: open{r.net, fake.Policy(t, egress.PolicyOptions{})}, Clock: hub.SystemClock{},
				UserAgent: "quorumhub/test", Timeout: 5 * time.Second, MaxBytes: 1000},
			Namer: fake.Namer(t), State: r.Engine, Proposer: r.Engine, Leadership: r.Engine, Log: fake.Discard(), Attempts: 3,
		}
		r.start()
		f(r)
		r.f.Close()
	})
}

func (r *fetcherRig) start() {
	r.f = fetch.NewFetcher(r.o)
	r.Observe(r.f)
	r.f.Start(context.Background())
}

func (r *fetcherRig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *fetcherRig) ping(topic string) {
	r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: topic, AutoRegister: true}}})
}

// messages returns the bodies published so far.
func (r *fetcherRig) messages(topic string) string {
	t := r.Topic(topic)
	msgs, err := r.Read(t.ID, 1, 1000, 1<<20)
	if err != nil {
		r.T.Error(err)
	}
	var out []string
	for _, m := range msgs {
		out = append(out, string(m.Body))
	}
	return strings.Join(out, " ")
}

const feed = "https://feed.example/atom"

func TestPingFetchesAndPublishes(t *testing.T) {
	fetching(t, func(string, int, string) fake.Answer {
		return fake.Answer{Body: "<feed/>", Header: http.Header{"Content-Type": {"application/atom+xml; charset=utf-8"}, "Etag": {`"1"`},
			"Link": {`<https://feed.example/canonical>; rel=self`}}}
	}, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.ping(feed)
		r.after(time.Second)
		msgs, _ := r.Read(1, 1, 10, 1000)
		if len(msgs) != 1 || string(msgs[0].Body) != "<feed/>" || msgs[0].ContentType != "application/atom+xml; charset=utf-8" ||
			msgs[0].LinkSelf != "https://feed.example/canonical" {
			t.Errorf("published %+v", msgs)
		}
		if tp := r.Topic(feed); tp.ETag != `"1"` || tp.FetchedPing != 1 {
			t.Errorf("topic %+v", tp)
		}
	})
}

// TestUnchangedContentIsNotDistributed, whether the server answers 304 or sends the same content.
func TestUnchangedContentIsNotDistributed(t *testing.T) {
	fetching(t, func(_ string, nth int, _ string) fake.Answer {
		etag := http.Header{"Etag": {`"1"`}, "Last-Modified": {"Wed, 21 Oct 2015 07:28:00 GMT"}}
		return []fake.Answer{{Body: "1", Header: etag}, {Status: 304}, {Body: "1", Header: etag}, {Body: "2"}, {Body: "1"}}[nth-1]
	}, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		for range 5 {
			r.ping(feed)
			r.after(time.Second)
		}
		if got := r.messages(feed); got != "1 2 1" {
			t.Errorf("published %q, want %q", got, "1 2 1")
		}
		for i, a := range r.net.To(feed) {
			conditional := a.Header.Get("If-None-Match") == `"1"` && a.Header.Get("If-Modified-Since") != ""
			if conditional != (i >= 1 && i <= 3) {
				t.Errorf("fetch %d: header %v", i+1, a.Header)
			}
		}
	})
}

func TestNothingIsFetchedWithoutSubscribers(t *testing.T) {
	fetching(t, fake.OK, func(r *fetcherRig) {
		r.ping(feed)
		r.after(time.Minute)
		id := r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.Leader.Store(false)
		r.ping(feed)
		r.End(id, hubpb.EndReason_END_UNSUBSCRIBED)
		r.Leader.Store(true)
		r.after(time.Minute)
		if n := len(r.net.To(feed)); n != 0 {
			t.Errorf("%d fetches", n)
		}
		if tp := r.Topic(feed); tp.Ping != tp.FetchedPing {
			t.Errorf("ping %d, answered %d", tp.Ping, tp.FetchedPing)
		}
	})
}

// TestPingDuringAFetchCausesOneMore: content published after the first request began is not missed, and many pings
// cause one fetch.
func TestPingDuringAFetchCausesOneMore(t *testing.T) {
	var content atomic.Int32
	content.Store(1)
	fetching(t, func(string, int, string) fake.Answer {
		return fake.Answer{Body: fmt.Sprint(content.Load()), After: 2 * time.Second}
	}, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.ping(feed)
		r.after(time.Second)
		for i := range 10 {
			content.Store(int32(i + 2))
			r.ping(feed)
		}
		r.after(time.Minute)
		if got, n := r.messages(feed), len(r.net.To(feed)); got != "1 11" || n != 2 {
			t.Errorf("published %q in %d fetches, want %q in 2", got, n, "1 11")
		}
		if tp := r.Topic(feed); tp.FetchedPing != 11 {
			t.Errorf("answered up to ping %d", tp.FetchedPing)
		}
	})
}

func TestFetchRetriesThenRecordsTheFailure(t *testing.T) {
	var up atomic.Bool
	fetching(t, func(_ string, nth int, _ string) fake.Answer {
		if up.Load() {
			return fake.Answer{Body: "x"}
		}
		return []fake.Answer{{Status: 503}, {Err: fake.ErrRefused}, {Hang: true}}[nth-1]
	}, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.ping(feed)
		r.after(time.Hour)
		if tp := r.Topic(feed); len(r.net.To(feed)) != 3 || tp.FetchError != "timeout" || tp.FetchedPing != 1 {
			t.Errorf("%d fetches, topic %+v", len(r.net.To(feed)), tp)
		}
		up.Store(true)
		r.ping(feed)
		r.after(time.Minute)
		if tp := r.Topic(feed); r.messages(feed) != "x" || tp.FetchError != "" {
			t.Errorf("published %q, topic %+v", r.messages(feed), tp)
		}
	})
}

func TestDefiniteFetchFailureIsNotRetried(t *testing.T) {
	fetching(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 404} }, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.Subscribe(fake.Want{Topic: "hosted", Callback: fake.Callback})
		r.Subscribe(fake.Want{Topic: "http://10.0.0.1/", Callback: fake.Callback})
		for _, topic := range []string{feed, "hosted", "http://10.0.0.1/"} {
			r.ping(topic)
		}
		r.after(time.Hour)
		if n := len(r.net.Arrivals); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		for topic, want := range map[string]string{feed: "http-status", "hosted": "bad-url", "http://10.0.0.1/": "forbidden-address"} {
			if got := r.Topic(topic).FetchError; got != want {
				t.Errorf("%s: %q, want %q", topic, got, want)
			}
		}
	})
}

// TestUnansweredPingsResumeAfterARestart: an acknowledged ping leads to a fetch, crash or not.
func TestUnansweredPingsResumeAfterARestart(t *testing.T) {
	var up atomic.Bool
	fetching(t, func(string, int, string) fake.Answer { return fake.Answer{Body: "x", Hang: !up.Load()} }, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.ping(feed)
		r.after(time.Second)
		r.f.Close()
		r.Forget()
		up.Store(true)
		r.start()
		r.after(time.Second)
		if got := r.messages(feed); got != "x" {
			t.Errorf("published %q", got)
		}
	})
}

// TestFetchDoesNotLeaveHTTPS: content promised over TLS is not fetched without it.
func TestFetchDoesNotLeaveHTTPS(t *testing.T) {
	fetching(t, func(url string, _ int, _ string) fake.Answer {
		if url == feed {
			return fake.Answer{Status: 302, Header: http.Header{"Location": {"http://feed.example/plain"}}}
		}
		return fake.Answer{Body: "x"}
	}, func(r *fetcherRig) {
		r.Subscribe(fake.Want{Topic: feed, Callback: fake.Callback})
		r.ping(feed)
		r.after(time.Minute)
		if tp := r.Topic(feed); tp.FetchError != "redirect" || tp.Head != 0 || len(r.net.Arrivals) != 1 {
			t.Errorf("topic %+v after %d requests", tp, len(r.net.Arrivals))
		}
	})
}

func TestCloseWithoutStart(*testing.T) {
	fetch.NewFetcher(fetch.Options{}).Close()
}
