package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// demoOrigin is a publisher's web server with one feed, which the hub fetches after a ping.
type demoOrigin struct {
	server *http.Server
	served chan error
	url    string
	hub    string

	mu      sync.Mutex
	version int
	body    []byte
	fetched int
}

func newDemoOrigin(hub string) (*demoOrigin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the hub's fetches: %w", err)
	}
	o := &demoOrigin{served: make(chan error, 1), url: "http://" + listener.Addr().String() + "/feed.xml", hub: hub}
	o.server = &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second}
	go func() { o.served <- o.server.Serve(listener) }()
	return o, nil
}

// change replaces the feed by a new edition and returns the edition.
func (o *demoOrigin) change(title string) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version++
	o.body = fmt.Appendf(nil, `<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <id>%[1]s</id>
  <link rel="self" href="%[1]s"/>
  <link rel="hub" href="%[2]s"/>
  <title>Demo feed</title>
  <entry><id>%[1]s#%[3]d</id><title>%[4]s</title></entry>
</feed>
`, o.url, o.hub, o.version, title)
	return o.body
}

// fetches returns the number of requests so far.
func (o *demoOrigin) fetches() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fetched
}

// ServeHTTP serves the feed with its hub and its own URL in Link headers, as WebSub section 4 requires.
func (o *demoOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/feed.xml" {
		http.NotFound(w, r)
		return
	}
	o.mu.Lock()
	o.fetched++
	tag, body := `"`+strconv.Itoa(o.version)+`"`, o.body
	o.mu.Unlock()
	w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="hub", <%s>; rel="self"`, o.hub, o.url))
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/atom+xml; charset=utf-8")
	_, _ = w.Write(body)
}

func (o *demoOrigin) close(ctx context.Context) error {
	err := o.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, o.server.Close())
	}
	if served := <-o.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
