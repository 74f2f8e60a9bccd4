package web_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway/registry"
)

// What the gateway costs a request over httputil.ReverseProxy, both on sockets.
func BenchmarkGateway(b *testing.B) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	b.Cleanup(service.Close)
	target, err := url.Parse(service.URL)
	if err != nil {
		b.Fatal(err)
	}
	transport := func() http.RoundTripper {
		return &http.Transport{MaxIdleConnsPerHost: 256, MaxIdleConns: 256, DisableCompression: true}
	}
	plain := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport()})
	b.Cleanup(plain.Close)
	run := func(b *testing.B, at string) {
		client := &http.Client{Transport: transport()}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				resp, err := client.Get(at)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					b.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
	src, _ := serving(&behind{Server: service}, plainServices, nil)
	f := newFixture(b, func(_ *hub.Policy, o *web.Options) {
		o.Log = nil
		o.Services = &web.ServiceOptions{Source: src, Transports: func(registry.Upstream) (http.RoundTripper, error) { return transport(), nil }}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Serve(b.Context(), ln) }()
	for f.Serving().Hash == "" {
		continue
	}
	b.Run("ReverseProxy", func(b *testing.B) { run(b, plain.URL+"/base/a") })
	b.Run("gateway", func(b *testing.B) { run(b, "http://"+ln.Addr().String()+"/gateway/deep/a") })
	b.Run("ReverseProxy again", func(b *testing.B) { run(b, plain.URL+"/base/a") })
}
