package node

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// waitingRoom answers requests on the hub's address while a fresh node waits for its peers, so that callers learn immediately to try
// again later.
type waitingRoom struct {
	server *http.Server
	guest  *guestListener
	ended  chan struct{}
}

func newWaitingRoom(l net.Listener, secure *tls.Config) *waitingRoom {
	w := &waitingRoom{guest: &guestListener{Listener: l, left: make(chan struct{})}, ended: make(chan struct{})}
	w.server = &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Cache-Control", "no-store")
			// http.public_url may have a path, so the beginning is not compared.
			if strings.HasSuffix(r.URL.Path, "/health") || strings.HasSuffix(r.URL.Path, "/health/live") {
				h.Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"status":"starting","reasons":["waiting for the other nodes of the cluster"]}` + "\n"))
				return
			}
			h.Set("Connection", "close")
			h.Set("Retry-After", "1")
			http.Error(w, "this node is starting and waiting for the other nodes of the cluster", http.StatusServiceUnavailable)
		}),
	}
	var at net.Listener = w.guest
	if secure != nil {
		at = tls.NewListener(at, secure)
	}
	go func() {
		defer close(w.ended)
		_ = w.server.Serve(at) // ends with close
	}()
	return w
}

// close stops answering. The listener stays open, for the hub.
func (w *waitingRoom) close() {
	w.guest.leave()
	<-w.ended
	// Not earlier: a new caller may make Accept return before leave has set the deadline.
	if d, ok := w.guest.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Time{})
	}
	_ = w.server.Close()
}

// guestListener borrows a listener: closing it ends Accept and leaves the listener open.
type guestListener struct {
	net.Listener
	once sync.Once
	left chan struct{}
}

func (g *guestListener) leave() {
	g.once.Do(func() {
		close(g.left)
		if d, ok := g.Listener.(interface{ SetDeadline(time.Time) error }); ok {
			_ = d.SetDeadline(time.Unix(1, 0))
		}
	})
}

// Accept implements net.Listener.
func (g *guestListener) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	select {
	case <-g.left:
		if err == nil {
			conn.Close()
		}
		return nil, net.ErrClosed
	default:
		return conn, err
	}
}

// Close implements net.Listener.
func (g *guestListener) Close() error {
	g.leave()
	return nil
}
