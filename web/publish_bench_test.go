package web_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

// instant answers every proposal at once, to measure HTTP and the handler only.
type instant struct{ offset atomic.Uint64 }

func (p *instant) Propose(context.Context, ...*hubpb.Event) ([]hub.Result, error) {
	return []hub.Result{{Topic: 1, Offset: p.offset.Add(1)}}, nil
}

// BenchmarkFatPublish compares publishing 1 KiB with a handler that only reads the body, over loopback with the same client.
func BenchmarkFatPublish(b *testing.B) {
	namer, err := hub.NewTopicNamer(publicURL)
	if err != nil {
		b.Fatal(err)
	}
	service := hub.NewService(hub.Policy{AutoRegister: true, MaxMessageBytes: 1 << 20}, namer, &instant{}, newLedger(newClock()), secrets{})
	l := newLedger(newClock())
	server := func() *web.Server {
		srv, err := web.New(web.Options{Service: service, State: l, Messages: l, Letters: l, Times: l, Node: &node{}, PublicURL: publicURL, StopGrace: time.Second})
		if err != nil {
			b.Fatal(err)
		}
		return srv
	}
	raw := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			w.WriteHeader(http.StatusOK)
		}
	})
	b.Run("raw", func(b *testing.B) { post(b, raw, "/") })
	b.Run("hub", func(b *testing.B) { post(b, server(), publishURL(topicURL)) })
	b.Run("topic", func(b *testing.B) { post(b, server(), "/topics/news") })
}

// BenchmarkFatPublishHandler measures time and allocations of the handler alone.
func BenchmarkFatPublishHandler(b *testing.B) {
	namer, err := hub.NewTopicNamer(publicURL)
	if err != nil {
		b.Fatal(err)
	}
	service := hub.NewService(hub.Policy{AutoRegister: true, MaxMessageBytes: 1 << 20}, namer, &instant{}, newLedger(newClock()), secrets{})
	b.Run("unlimited", func(b *testing.B) { publishDirectly(b, service, web.Limits{}) })
	b.Run("limited", func(b *testing.B) {
		publishDirectly(b, service, web.Limits{Publish: hub.Rate{Requests: 1_000_000_000, Per: time.Minute}})
	})
}

func publishDirectly(b *testing.B, service *hub.Service, limits web.Limits) {
	l := newLedger(newClock())
	srv, err := web.New(web.Options{Service: service, State: l, Messages: l, Letters: l, Times: l, Node: &node{}, PublicURL: publicURL, Limits: limits})
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 1024)
	r, err := http.NewRequest(http.MethodPost, publishURL(topicURL), nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = "203.0.113.7:1234"
	b.ReportAllocs()
	for b.Loop() {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		w := discard{}
		srv.ServeHTTP(w, r)
	}
}

type discard http.Header

func (d discard) Header() http.Header         { return http.Header(d) }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func post(b *testing.B, h http.Handler, target string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	if srv, ok := h.(*web.Server); ok {
		go func() { done <- srv.Serve(ctx, ln) }()
	} else {
		srv := &http.Server{Handler: h}
		go func() { done <- srv.Serve(ln) }()
		context.AfterFunc(ctx, func() { _ = srv.Close() })
	}
	defer func() {
		cancel()
		<-done
	}()
	const workers = 64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer client.CloseIdleConnections()
	body := bytes.Repeat([]byte("x"), 1024)
	b.SetParallelism(workers / 2)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := client.Post("http://"+ln.Addr().String()+target, "application/json", bytes.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				b.Errorf("status %d", resp.StatusCode)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
