package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of every connection. Bodies and answers have their own deadlines on top.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 90 * time.Second
	maxHeaderBytes    = 32 << 10
	maxHeaderNames    = 100
	// answerTime is what an answer may take beyond the body's deadline: waiting for the log included.
	answerTime = 45 * time.Second
)

// Server serves HTTP. Make it with New, run it with Serve, end it with Close.
type Server struct {
	Options
	hubURL    string
	router    http.Handler
	routes    []*route
	budget    *budget
	metrics   *metrics
	liveness  liveness
	queries   *nameCache // raw query of a publish -> topic
	paths     *nameCache // escaped path below /topics/ -> topic
	tooLarge  error      // for content over message.max_bytes
	streams   streams
	listening *limited
	limits    *limiter
	exchanges sync.Pool
	http      *http.Server

	backingUp atomic.Bool // one at a time

	draining    atomic.Bool
	crossOrigin *http.CrossOriginProtection

	closing  sync.Once
	closed   chan struct{}
	closeErr error
}

// New checks the options and makes a Server that does not listen yet. It is an http.Handler too.
func New(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{Options: o, hubURL: strings.TrimSuffix(o.PublicURL, "/") + "/hub", closed: make(chan struct{}),
		queries: newNameCache(), paths: newNameCache(), tooLarge: o.Service.TooLarge()}
	s.budget = newBudget(o.BudgetBytes, o.Service.Policy().MaxMessageBytes)
	s.exchanges.New = func() any { return new(exchange) }
	var err error
	if s.metrics, err = newMetrics(o.Registry, s.budget); err != nil {
		return nil, err
	}
	if err := s.newStreams(); err != nil {
		return nil, err
	}
	if s.listening, err = s.newLimited(); err != nil {
		return nil, err
	}
	if s.limits, err = newLimiter(o.Limits, o.Registry); err != nil {
		return nil, err
	}
	s.routes = s.table()
	s.crossOrigin = http.NewCrossOriginProtection()
	public, err := url.Parse(o.PublicURL)
	if err == nil {
		// The browser names this one also where a proxy changes Host.
		err = s.crossOrigin.AddTrustedOrigin(public.Scheme + "://" + public.Host)
	}
	if err != nil {
		return nil, fmt.Errorf("web: PublicURL: %w", err)
	}
	for _, rt := range s.routes {
		if err := rt.check(); err != nil {
			return nil, err
		}
	}
	s.router = s.newRouter()
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		// For the whole request. It holds for bodies that nobody reads, too: net/http reads their rest before it
		// answers. readBody lifts it once the body is there.
		ReadTimeout:    o.BodyTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		WriteTimeout:   o.BodyTimeout + answerTime,
		ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	return s, nil
}

// Serve takes connections from ln until ctx is done or Close is called, and returns when the requests under way
// have ended (or Options.StopGrace is over). It closes ln. The error is nil after an orderly stop.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StopGrace)
		defer cancel()
		_ = s.Close(grace) // the error stays in closeErr, which Serve returns
	})
	defer stop()
	at := s.listening.from(ln)
	if s.TLS != nil {
		// Outermost: net/http looks for it to speak HTTP/2 and to hand over the client's certificate.
		at = tls.NewListener(at, s.TLS)
	}
	err := s.http.Serve(at)
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	}
	<-s.closed
	return s.closeErr
}

// Close stops taking requests, waits for those under way until ctx is done, and cuts off the rest. It may be
// called more than once and from several goroutines; all calls return when the stop is complete.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() {
		defer close(s.closed)
		s.draining.Store(true)
		s.streams.stop()
		if err := s.http.Shutdown(ctx); err != nil {
			s.closeErr = errors.Join(fmt.Errorf("stop HTTP: requests were cut off: %w", err), s.http.Close())
		}
	})
	<-s.closed
	return s.closeErr
}
