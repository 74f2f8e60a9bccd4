package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// ServerTLS serves the PEM files of an HTTPS listener. It checks them again for new connections, at most once a second, so that
// renewed certificates need no restart; while files cannot be read, the last good ones stay in force.
type ServerTLS struct {
	Cert, Key string
	ClientCA  string // signs client certificates; empty: none are requested
	// Failed is called when files cannot be read while good ones are in force.
	Failed func(error)

	mu      sync.Mutex // guards the names, too, once Config was called
	config  *tls.Config
	told    *tls.Config // the one that Reload compares with
	stamp   string
	checked time.Time
}

// Config reads the files and returns the listener's configuration: TLS 1.2 or later, HTTP/2 and HTTP/1.1. A client certificate
// is requested but not required: callers without one are up to the rules.
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

// Reload reads the files of the given names at once. It reports whether the certificates differ from those at the start or at the last
// Reload. What is in force stays if there is an error.
func (t *ServerTLS) Reload(cert, key, clientCA string) (changed bool, err error) {
	next := &ServerTLS{Cert: cert, Key: key, ClientCA: clientCA}
	if next.config, err = next.load(); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = !sameTLS(t.told, next.config)
	t.Cert, t.Key, t.ClientCA = cert, key, clientCA
	t.stamp, t.checked = t.stampOf(), time.Time{}
	if changed || !sameTLS(t.config, next.config) {
		t.config = next.config
	}
	t.told = t.config
	return changed, nil
}

// Leaf returns the certificate in force. Config must have been called.
func (t *ServerTLS) Leaf() *x509.Certificate {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.config.Certificates[0].Leaf
}

func sameTLS(a, b *tls.Config) bool {
	return slices.EqualFunc(a.Certificates[0].Certificate, b.Certificates[0].Certificate, bytes.Equal) &&
		(a.ClientCAs == b.ClientCAs || a.ClientCAs != nil && b.ClientCAs != nil && a.ClientCAs.Equal(b.ClientCAs))
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
		if t.told == nil {
			t.told = c
		}
	case t.config == nil:
		return nil, err
	case stamp != t.stamp && t.Failed != nil:
		t.stamp = stamp // report these files once
		t.Failed(err)
	}
	return t.config, nil
}

// stampOf returns a text that changes when a file does.
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
		return nil, fmt.Errorf("http.tls.client_ca: %s contains no certificate; expected PEM", t.ClientCA)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c, nil
}
