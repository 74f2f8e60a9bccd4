package auth

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// ServerTLS are the PEM files of an HTTPS listener. They are looked at again for new connections, at most once a
// second, so that renewed certificates need no restart; files that cannot be read leave the last good ones in force.
type ServerTLS struct {
	Cert, Key string
	ClientCA  string // signs client certificates; empty: none are asked for
	// Failed is told of files that could not be read while good ones were in force.
	Failed func(error)

	mu      sync.Mutex
	config  *tls.Config
	stamp   string
	checked time.Time
}

// Config reads the files and makes the listener's configuration: TLS 1.2 at least, HTTP/2 and HTTP/1.1. A client
// certificate is asked for and not required: who shows none is not refused here but by the rules.
func (t *ServerTLS) Config() (*tls.Config, error) {
	if _, err := t.current(time.Now()); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return t.current(time.Now())
		},
	}, nil
}

func (t *ServerTLS) current(now time.Time) (*tls.Config, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.config != nil && now.Sub(t.checked) < time.Second {
		return t.config, nil
	}
	t.checked = now
	stamp := t.stampOf()
	if t.config != nil && stamp == t.stamp {
		return t.config, nil
	}
	c, err := t.load()
	switch {
	case err == nil:
		t.config, t.stamp = c, stamp
	case t.config == nil:
		return nil, err
	case stamp != t.stamp && t.Failed != nil:
		t.stamp = stamp // said once for these files
		t.Failed(err)
	}
	return t.config, nil
}

// stampOf changes when a file does.
func (t *ServerTLS) stampOf() string {
	out := ""
	for _, f := range []string{t.Cert, t.Key, t.ClientCA} {
		if info, err := os.Stat(f); err == nil {
			out += fmt.Sprintf("%d/%d ", info.ModTime().UnixNano(), info.Size())
		}
	}
	return out
}

func (t *ServerTLS) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("http.tls.cert, http.tls.key: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{cert}}
	if t.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("http.tls.client_ca: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("http.tls.client_ca: %s holds no certificate; expected PEM", t.ClientCA)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c, nil
}
