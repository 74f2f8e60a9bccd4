package bench

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Getters count answers of the service only, through the proxy as well, and anything else fails the measurement.
func TestGettersAcceptOnlyTheService(t *testing.T) {
	service := httptest.NewServer(newUpstream())
	defer service.Close()
	u, err := url.Parse(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(newProxy(u))
	defer proxy.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for at, wrong := range map[string]string{service.URL: "", proxy.URL: "", other.URL: "got status 404"} {
		g, err := newGetters(t.Context(), newStopwatch(), 4, at+"/small", "")
		if err != nil {
			t.Fatal(err)
		}
		err = g.window(t.Context(), 20*time.Millisecond)
		g.close()
		switch {
		case wrong != "":
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %v, want %s", at, err, wrong)
			}
		case err != nil:
			t.Error(err)
		case g.total == 0 || g.latency.quantiles().Count != g.total || len(g.rates) != 1 || g.rates[0] <= 0:
			t.Errorf("%d requests, %d latencies, rates %v", g.total, g.latency.quantiles().Count, g.rates)
		}
	}
}

// Bodies wait for each other, in both directions, and arrive whole; a service that is missing is an error and not a hang.
func TestBodiesWaitForEachOther(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/gateway/", http.StripPrefix("/gateway", newUpstream()))
	service := httptest.NewServer(mux)
	defer service.Close()
	if err := sendBodies(t.Context(), service.URL, 8); err != nil {
		t.Error(err)
	}
	none := httptest.NewServer(http.NotFoundHandler())
	defer none.Close()
	if err := sendBodies(t.Context(), none.URL, 8); err == nil {
		t.Error("bodies to nowhere were accepted")
	}
}
