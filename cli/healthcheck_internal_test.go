package cli

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/configs"
)

// A node on a unix socket is found there, whatever its public URL; a socket that systemd passed is known to nobody else.
func TestHealthcheckFindsAUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "hub.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host+r.URL.Path) }))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	cfg := configs.Default()
	cfg.HTTP.Addr, cfg.HTTP.PublicURL = "unix:"+socket, "https://hub.example/ws"
	p, err := newProbe(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.client.CloseIdleConnections()
	status, body, err := p.get(t.Context(), p.base+"/health/live")
	if err != nil || status != 200 || string(body) != "localhost/ws/health/live" {
		t.Errorf("got %d %q %v", status, body, err)
	}
	cfg.HTTP.Addr = "systemd"
	if _, err := newProbe(cfg); err == nil || !strings.Contains(err.Error(), "expected --url") {
		t.Errorf("got %v", err)
	}
}
