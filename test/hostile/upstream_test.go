package hostile_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
	"quorumhub/web/gateway/upstream"
)

// TestHostileNameOfAnUpstream: the name of a service behind the gateway begins to resolve to a metadata service, and to the
// hub itself. Neither is called, and the client learns the class of the failure only.
func TestHostileNameOfAnUpstream(t *testing.T) {
	var inside atomic.Int32
	hub := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	defer hub.Close()
	listens := netip.MustParseAddrPort(hub.Listener.Addr().String())
	_, port, _ := net.SplitHostPort(hub.Listener.Addr().String())
	for _, to := range []string{"169.254.169.254", "127.0.0.1"} {
		(&fake.DNS{Answers: []netip.Addr{netip.MustParseAddr(to)}}).Install(t)
		urls := []string{"http://hr.example:" + port}
		guarded, err := egress.NewUpstreamClient(urls, []string{"hr.example"}, []netip.AddrPort{listens}, egress.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer guarded.Close()
		pool, err := upstream.New(upstream.Config{Name: "hr", URLs: urls, Retry: 2}, guarded, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		_, err = pool.Call(context.Background(), &upstream.Request{Method: http.MethodGet, Target: "/latest/meta-data/"})
		var failed *upstream.Error
		if !errors.As(err, &failed) || failed.Class != upstream.ClassDenied {
			t.Fatalf("%s: got %v, want class denied", to, err)
		}
		if d := failed.Problem(); d.Status != http.StatusBadGateway || strings.Contains(d.Error()+err.Error(), to) {
			t.Errorf("%s: the client learns %d %q", to, d.Status, d.Error())
		}
		if line := failed.LogValue().String(); !strings.Contains(line, to) {
			t.Errorf("%s: the log does not say where it led: %s", to, line)
		}
	}
	if n := inside.Load(); n != 0 {
		t.Errorf("the hub called itself %d times", n)
	}
}
