package delivery_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

func pusher(t testing.TB) *delivery.Pusher {
	return &delivery.Pusher{Client: fake.DevClient(t), Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
}

func endpoint(t testing.TB, p *delivery.Pusher, callback string, signer *delivery.Signer) *delivery.Endpoint {
	t.Helper()
	e, err := p.NewEndpoint(callback, signer)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What may stand in a URL is sent as given; the rest is percent-encoded, and nothing is decoded.
func TestPushSendsTheCallbackAsGiven(t *testing.T) {
	s := fake.Record(t, func(http.ResponseWriter, *http.Request) {})
	own := pusher(t)
	netHTTP := &delivery.Pusher{Client: http.DefaultTransport, Clock: own.Clock, UserAgent: own.UserAgent}
	for callback, want := range map[string]string{
		"/{t}%2Fx":               "/%7Bt%7D%2Fx",
		"/cb?user=josé":          "/cb?user=jos%C3%A9",
		"/é|%7c?a|b={c}&d[]=%5b": "/%C3%A9%7C%7c?a%7Cb=%7Bc%7D&d[]=%5b",
		"?x":                     "/?x",
	} {
		for _, p := range []*delivery.Pusher{own, netHTTP} {
			if res := p.Push(t.Context(), endpoint(t, p, s.URL+callback, nil), delivery.Content{Body: []byte("x"), ContentType: "text/plain"}); res.Outcome != delivery.PushDelivered {
				t.Errorf("%s: %+v", callback, res)
			}
			if reqs := s.All(); reqs[len(reqs)-1].URI != want {
				t.Errorf("%s is called as %s, want %s", callback, reqs[len(reqs)-1].URI, want)
			}
		}
	}
}

// TestPushOnTheWire is WebSub rules 6, 26, 28, 47, 49, 55, 57 and 58, byte for byte.
func TestPushOnTheWire(t *testing.T) {
	s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) })
	p := pusher(t)
	body := []byte("\x00\xff\r\n<feed>\u00e9</feed>")
	signer, err := delivery.NewSigner(delivery.SHA384, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	c := delivery.Content{Body: body, ContentType: `Application/Atom+XML;  charset="ISO-8859-1"`, MessageID: "3-17",
		Link: delivery.LinkHeader("https://hub.example/hub", "https://t.example/a,b")}
	for _, sg := range []*delivery.Signer{nil, signer} {
		res := p.Push(t.Context(), endpoint(t, p, s.URL+"/cb/%7Ex?hub=1&a=%2F", sg), c)
		if res.Outcome != delivery.PushDelivered || res.Status != 202 || res.Latency <= 0 {
			t.Errorf("result %+v", res)
		}
		reqs := s.All()
		got := reqs[len(reqs)-1]
		want := http.Header{
			"Content-Type":     {`Application/Atom+XML;  charset="ISO-8859-1"`},
			"Content-Length":   got.Header["Content-Length"],
			"Link":             {`<https://hub.example/hub>; rel="hub", <https://t.example/a,b>; rel="self"`},
			"User-Agent":       {"quorumhub/test"},
			"X-Hub-Message-Id": {"3-17"},
		}
		if sg != nil {
			sig, _ := delivery.Sign(delivery.SHA384, []byte("secret"), body)
			want["X-Hub-Signature"] = []string{sig}
		}
		if !reflect.DeepEqual(got.Header, want) {
			t.Errorf("header\n got %v\nwant %v", got.Header, want)
		}
		if got.Method != "POST" || got.URI != "/cb/%7Ex?hub=1&a=%2F" || !bytes.Equal(got.Body, body) {
			t.Errorf("%s %s %q", got.Method, got.URI, got.Body)
		}
	}
}

func TestPushEmptyBodyAndType(t *testing.T) {
	s := fake.Record(t, func(http.ResponseWriter, *http.Request) {})
	p := pusher(t)
	if res := p.Push(t.Context(), endpoint(t, p, s.URL, nil), delivery.Content{Link: "<a>", MessageID: "1-1"}); res.Outcome != delivery.PushDelivered {
		t.Errorf("result %+v", res)
	}
	got := s.All()[0]
	if len(got.Body) != 0 || got.Header["Content-Type"] != nil || got.Header.Get("Content-Length") != "0" {
		t.Errorf("header %v, body %q", got.Header, got.Body)
	}
}

func TestPushOutcomes(t *testing.T) {
	for code, want := range map[int]delivery.PushOutcome{
		200: delivery.PushDelivered, 201: delivery.PushDelivered, 204: delivery.PushDelivered, 299: delivery.PushDelivered,
		301: delivery.PushRefused, 302: delivery.PushRefused, 303: delivery.PushRefused, 304: delivery.PushRefused,
		307: delivery.PushRefused, 308: delivery.PushRefused,
		400: delivery.PushRefused, 401: delivery.PushRefused, 404: delivery.PushRefused, 422: delivery.PushRefused,
		410: delivery.PushGone,
		408: delivery.PushDown, 425: delivery.PushDown, 429: delivery.PushDown, 500: delivery.PushDown, 503: delivery.PushDown,
		600: delivery.PushDown,
	} {
		s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Retry-After", "9")
			w.WriteHeader(code)
		})
		p := pusher(t)
		res := p.Push(t.Context(), endpoint(t, p, s.URL, nil), delivery.Content{Body: []byte("x")})
		if res.Outcome != want || res.Status != code {
			t.Errorf("%d: %+v, want outcome %v", code, res, want)
		}
		if wait := want == delivery.PushDown; wait != (res.RetryAfter == 9*time.Second) && want != delivery.PushRefused {
			t.Errorf("%d: Retry-After %v", code, res.RetryAfter)
		}
		if n := len(s.All()); n != 1 {
			t.Errorf("%d: %d requests, want 1: redirects are not followed", code, n)
		}
	}
}

func TestPushWithoutAnswer(t *testing.T) {
	hang := make(chan struct{})
	s := fake.Record(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	p := pusher(t)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if res := p.Push(ctx, endpoint(t, p, s.URL, nil), delivery.Content{}); res.Outcome != delivery.PushDown || res.Reason != egress.ReasonTimeout {
		t.Errorf("timeout: %+v", res)
	}
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, stop)
	if res := p.Push(ctx, endpoint(t, p, s.URL, nil), delivery.Content{}); res.Outcome != delivery.PushCancelled {
		t.Errorf("cancelled: %+v", res)
	}
	if res := p.Push(t.Context(), endpoint(t, p, "http://10.0.0.1:8080", nil), delivery.Content{}); res.Outcome != delivery.PushRefused || res.Reason != egress.ReasonDenied {
		t.Errorf("forbidden: %+v", res)
	}
	a := fake.Record(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if res := p.Push(t.Context(), endpoint(t, p, a.URL, nil), delivery.Content{Body: []byte("x")}); res.Outcome != delivery.PushDown || res.Reason != egress.ReasonUnreachable {
		t.Errorf("cut off: %+v", res)
	}
}

// TestPushBoundsWhatItReads: an endless response costs neither memory nor a pooled connection.
func TestPushBoundsWhatItReads(t *testing.T) {
	var written atomic.Int64
	s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat("x", 1<<10))
		for {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	p := pusher(t)
	res := p.Push(t.Context(), endpoint(t, p, s.URL, nil), delivery.Content{Body: []byte("x")})
	if res.Outcome != delivery.PushDelivered {
		t.Errorf("result %+v", res)
	}
	if n := written.Load(); n > 32<<20 {
		t.Errorf("the server could write %d bytes", n)
	}
	long := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
	})
	if res := p.Push(t.Context(), endpoint(t, p, long.URL, nil), delivery.Content{}); res.Outcome != delivery.PushDown {
		t.Errorf("64 KiB of header: %+v", res)
	}
}

// TestPushSurvivesIdleClose: a server that closes idle connections causes no failed attempt.
func TestPushSurvivesIdleClose(t *testing.T) {
	var conns atomic.Pointer[net.Conn]
	var count atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		count.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	s.Config.ConnState = func(c net.Conn, st http.ConnState) {
		if st == http.StateIdle {
			conns.Store(&c)
		}
	}
	s.Start()
	defer s.Close()
	p := pusher(t)
	e := endpoint(t, p, s.URL, nil)
	for range 20 {
		if res := p.Push(t.Context(), e, delivery.Content{Body: []byte("x")}); res.Outcome != delivery.PushDelivered {
			t.Fatalf("result %+v", res)
		}
		if c := conns.Swap(nil); c != nil {
			_ = (*c).Close()
		}
	}
	if n := count.Load(); n != 20 {
		t.Errorf("%d requests arrived, want 20", n)
	}
}

// TestPushHTTP2Only: a server that accepts only HTTP/2 receives its messages too.
func TestPushHTTP2Only(t *testing.T) {
	var got atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.ProtoMajor == 2 && string(b) == "x" && r.Header.Get("X-Hub-Message-Id") == "1-1" {
			got.Add(1)
		}
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(503)
	}))
	s.EnableHTTP2 = true
	var certs []tls.Certificate
	s.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		proto := "something else"
		for _, p := range hello.SupportedProtos {
			if p == "h2" {
				proto = "h2"
			}
		}
		return &tls.Config{Certificates: certs, NextProtos: []string{proto}}, nil
	}}
	s.StartTLS()
	defer s.Close()
	certs = s.TLS.Certificates
	client := egress.NewClient(fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback}), egress.ClientOptions{TLS: fake.Trust(t, s)})
	defer client.Close()
	p := &delivery.Pusher{Client: client, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
	e := endpoint(t, p, s.URL, nil)
	for range 3 {
		res := p.Push(t.Context(), e, delivery.Content{Body: []byte("x"), MessageID: "1-1"})
		if res.Status != 503 || res.RetryAfter != 5*time.Second {
			t.Errorf("%+v", res)
		}
	}
	if n := got.Load(); n != 3 {
		t.Errorf("%d requests by HTTP/2, want 3", n)
	}
}
