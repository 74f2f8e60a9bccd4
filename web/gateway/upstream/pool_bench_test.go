package upstream_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"quorumhub/web/gateway/upstream"
)

// BenchmarkPassThrough compares a pool with httputil.ReverseProxy over the same kind of transport, loopback included:
// the difference is what the pool costs.
func BenchmarkPassThrough(b *testing.B) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	}))
	defer service.Close()
	target, err := url.Parse(service.URL)
	if err != nil {
		b.Fatal(err)
	}
	reverse := httputil.NewSingleHostReverseProxy(target)
	reverse.Transport = transport(b)
	reverse.ErrorLog = log.New(io.Discard, "", 0)
	pool := newPool(b, transport(b), upstream.Config{URLs: []string{service.URL}, Retry: 2})
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"ReverseProxy", reverse}, {"Pool", handler(pool)}} {
		for _, method := range []string{"GET", "POST"} {
			b.Run(c.name+"/"+method, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var body io.Reader
					if method == "POST" {
						body = strings.NewReader(strings.Repeat("y", 1000))
					}
					r := httptest.NewRequest(method, "/v1/address?ID=121", body)
					r.Header.Set("Accept", "application/json")
					w := httptest.NewRecorder()
					c.handler.ServeHTTP(w, r)
					if w.Code != 200 || w.Body.Len() != 1000 {
						b.Fatal(w.Code, w.Body.Len())
					}
				}
			})
		}
	}
}
