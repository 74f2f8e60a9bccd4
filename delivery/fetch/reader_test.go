package fetch_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/fetch"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

func topicReader(t testing.TB) *fetch.Reader {
	return &fetch.Reader{Client: fake.DevClient(t), Clock: hub.SystemClock{}, UserAgent: "quorumhub/test",
		Timeout: 5 * time.Second, MaxBytes: 1000}
}

func TestFetchConditional(t *testing.T) {
	s := fake.Record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `W/"1"` || r.Header.Get("If-Modified-Since") == "Wed, 21 Oct 2015 07:28:00 GMT" {
			w.WriteHeader(304)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=latin1")
		w.Header().Set("ETag", `W/"1"`)
		w.Header().Set("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
		w.Header().Add("Link", `<https://hub.example/>; rel=hub`)
		w.Header().Add("Link", `</self>; rel="Self"`)
		_, _ = io.WriteString(w, "caf\xe9")
	})
	f := topicReader(t)
	got := f.Fetch(t.Context(), fetch.Request{URL: s.URL + "/t?q=1"})
	want := fetch.Result{Outcome: fetch.Content, Status: 200, Body: []byte("caf\xe9"), ContentType: "text/plain; charset=latin1",
		ETag: `W/"1"`, LastModified: "Wed, 21 Oct 2015 07:28:00 GMT", Hubs: []string{"https://hub.example/"}, Self: s.URL + "/self"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	h := s.All()[0].Header
	if h.Get("Accept") != "*/*" || h.Get("Accept-Language") != "" || h.Get("User-Agent") != "quorumhub/test" {
		t.Errorf("header %v", h)
	}
	for _, in := range []fetch.Request{
		{URL: s.URL, ETag: got.ETag}, {URL: s.URL, LastModified: got.LastModified},
	} {
		if res := f.Fetch(t.Context(), in); res.Outcome != fetch.NotModified {
			t.Errorf("%+v: %+v, want not modified", in, res)
		}
	}
}

func TestFetchOutcomes(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, c := range []struct {
		name   string
		h      http.HandlerFunc
		want   fetch.Outcome
		reason egress.Reason
	}{
		{"empty", status(200), fetch.Content, ""},
		{"no content", status(204), fetch.Failed, egress.ReasonStatus},
		{"partial", status(206), fetch.Failed, egress.ReasonStatus},
		{"404", status(404), fetch.Failed, egress.ReasonStatus},
		{"410", status(410), fetch.Failed, egress.ReasonStatus},
		{"429", status(429), fetch.Retryable, egress.ReasonStatus},
		{"503", status(503), fetch.Retryable, egress.ReasonStatus},
		{"at the limit", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1000)) }, fetch.Content, ""},
		{"too large, announced", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1001)) }, fetch.Failed, egress.ReasonTooLarge},
		{"too large, chunked", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
		}, fetch.Failed, egress.ReasonTooLarge},
		{"cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(make([]byte, 50))
		}, fetch.Retryable, egress.ReasonUnreachable},
		{"gzip bomb", gzipped(strings.Repeat("a", 1<<20)), fetch.Failed, egress.ReasonTooLarge},
		{"brotli", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "xx")
		}, fetch.Failed, egress.ReasonEncoding},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(c.h)
			defer s.Close()
			if res := topicReader(t).Fetch(t.Context(), fetch.Request{URL: s.URL}); res.Outcome != c.want || res.Reason != c.reason {
				t.Errorf("%+v, want %v (%s)", res, c.want, c.reason)
			}
		})
	}
}

func gzipped(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, s)
		_ = z.Close()
	}
}

func TestFetchUndoesGzip(t *testing.T) {
	s := httptest.NewServer(gzipped("hello"))
	defer s.Close()
	if res := topicReader(t).Fetch(t.Context(), fetch.Request{URL: s.URL}); string(res.Body) != "hello" {
		t.Errorf("%+v", res)
	}
}

func TestFetchRedirects(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") }))
	defer plain.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := map[string]string{"/3": "/2", "/2": "/1", "/1": "/0", "/4": "/3", "/in": "http://10.0.0.1:8080/",
			"/meta": "http://169.254.169.254/latest", "/file": "file:///etc/passwd", "/loop": "/loop", "/user": "http://u:p@127.0.0.1:8080/",
			"/frag": "/0#top", "/none": ""}
		next, ok := to[r.URL.Path]
		switch {
		case r.URL.Path == "/0":
			_, _ = io.WriteString(w, "here")
		case ok && next == "":
			w.WriteHeader(302)
		default:
			http.Redirect(w, r, next, http.StatusFound)
		}
	}))
	defer s.Close()
	for path, want := range map[string]egress.Reason{
		"/0": "", "/1": "", "/3": "", "/frag": "", "/4": egress.ReasonRedirect, "/loop": egress.ReasonRedirect, "/none": egress.ReasonRedirect,
		"/in": egress.ReasonDenied, "/meta": egress.ReasonDenied, "/file": egress.ReasonDenied, "/user": egress.ReasonDenied,
	} {
		res := topicReader(t).Fetch(t.Context(), fetch.Request{URL: s.URL + path})
		if res.Reason != want || (want == "") != (string(res.Body) == "here") {
			t.Errorf("%s: %+v, want reason %q", path, res, want)
		}
	}
}

// The URL of a topic, and that of a redirect, go out as given, with only that encoded which may not stand in a URL.
func TestFetchSendsTheURLAsGiven(t *testing.T) {
	for target, want := range map[string]string{
		"/{t}%2Fx":               "/%7Bt%7D%2Fx",
		"/feed?user=josé":        "/feed?user=jos%C3%A9",
		"/é|%7c?a|b={c}&d[]=%5b": "/%C3%A9%7C%7c?a%7Cb=%7Bc%7D&d[]=%5b",
	} {
		s := fake.Record(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				w.Header()["Location"] = []string{target}
				w.WriteHeader(http.StatusFound)
			}
		})
		for _, first := range []string{target, "/moved"} {
			res := topicReader(t).Fetch(t.Context(), fetch.Request{URL: s.URL + first})
			if reqs := s.All(); res.Outcome != fetch.Content || reqs[len(reqs)-1].URI != want {
				t.Errorf("%s through %s: %+v by %s, want %s", target, first, res, reqs[len(reqs)-1].URI, want)
			}
		}
	}
}
