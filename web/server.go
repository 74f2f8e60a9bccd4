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

	"quorumhub/auth"
	"quorumhub/web/console"
	"quorumhub/web/gateway"
)

// Limits on every connection. Bodies and responses have deadlines of their own.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 90 * time.Second
	maxHeaderBytes    = 32 << 10
	maxHeaderNames    = 100
	// answerTime bounds a response after the body's deadline, including the wait for the log.
	answerTime = 45 * time.Second
)

// Server serves HTTP. Make it with New, run it with Serve, and stop it with Close.
type Server struct {
	Options
	hubURL   string
	router   http.Handler
	routes   []*route
	budget   *budget
	metrics  *metrics
	liveness liveness
	queries  *nameCache // raw query of a publish -> topic
	paths    *nameCache // escaped path below /topics/ -> topic
	hosts    *nameCache // Host -> known
	prefixes prefixes
	tooLarge error // for content over message.max_bytes
	// consoleCallers is how people prove who they are at the console, see identify. nil without a Guard.
	consoleCallers *auth.Demand
	streams        streams
	listening      *limited
	limits         *limiter
	exchanges      sync.Pool
	gateway        *gateway.Gateway // nil: there is none
	// gatewayRoute is the one of its routes that the registry's prefix leads to.
	gatewayRoute *route
	http         *http.Server

	backingUp atomic.Bool // allows one backup at a time

	draining    atomic.Bool
	crossOrigin *http.CrossOriginProtection
	sameOrigin  *http.CrossOriginProtection // of the console, which pages of other origins may not use
	console     *console.Console

	services sync.Once // starts the gateway
	closing  sync.Once
	closed   chan struct{}
	closeErr error
}

// New checks the options and makes a Server that does not listen yet. It is also an http.Handler.
func New(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{Options: o, hubURL: strings.TrimSuffix(o.PublicURL, "/") + "/hub", closed: make(chan struct{}),
		queries: newNameCache(o.Service.Namer().Version), paths: newNameCache(o.Service.Namer().Version),
		hosts: newNameCache(o.Service.Namer().Version), tooLarge: o.Service.TooLarge()}
	bodies := 0
	if o.Guard != nil {
		bodies = o.CallerBodies
		s.consoleCallers = o.Guard.DemandFor(consoleProvider)
	}
	s.budget = newBudget(o.BudgetBytes, o.Service.Policy().MaxMessageBytes, bodies)
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
	s.prefixes.namer = o.Service.Namer()
	if err := s.newGateway(); err != nil {
		return nil, err
	}
	if err := s.newConsole(); err != nil {
		return nil, err
	}
	s.routes = s.table()
	s.crossOrigin, s.sameOrigin = http.NewCrossOriginProtection(), http.NewCrossOriginProtection()
	public, err := url.Parse(o.PublicURL)
	if err == nil {
		// Browsers send this origin even if a proxy changes Host.
		err = errors.Join(s.crossOrigin.AddTrustedOrigin(public.Scheme+"://"+public.Host), s.sameOrigin.AddTrustedOrigin(public.Scheme+"://"+public.Host))
	}
	for _, origin := range o.CORSOrigins {
		if err == nil {
			err = s.crossOrigin.AddTrustedOrigin(origin)
		}
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
		// For the whole request, including bodies that no handler reads, which net/http drains before it answers. readBody lifts
		// it once the body has arrived.
		ReadTimeout:    o.BodyTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		WriteTimeout:   o.BodyTimeout + answerTime,
		ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(c))
		},
		ConnState: connState,
	}
	return s, nil
}

// Serve accepts connections from ln until ctx is done or Close is called. It returns when the requests in flight have ended or
// Options.StopGrace has passed, and closes ln. The error is nil after an orderly stop.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StopGrace)
		defer cancel()
		_ = s.Close(grace) // Serve returns the error from closeErr
	})
	defer stop()
	s.StartServices(context.WithoutCancel(ctx)) // until Close
	at := s.listening.from(ln)
	if s.TLS != nil {
		// Outermost, where net/http looks for it to speak HTTP/2 and to pass on the client's certificate.
		at = tls.NewListener(at, s.TLS)
	}
	err := s.http.Serve(at)
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	}
	<-s.closed
	return s.closeErr
}

// Close stops accepting requests, waits for those in flight until ctx is done, and cuts off the rest. It may be called repeatedly
// and concurrently; every call returns when the server has stopped.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() {
		defer close(s.closed)
		s.draining.Store(true)
		s.streams.stop()
		if err := s.http.Shutdown(ctx); err != nil {
			s.closeErr = errors.Join(fmt.Errorf("stop HTTP: cut off requests in flight: %w", err), s.http.Close())
		}
		s.console.Close()
		if s.gateway != nil {
			s.gateway.Close()
		}
	})
	<-s.closed
	return s.closeErr
}
