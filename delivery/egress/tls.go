package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLSRule configures TLS for some hosts. Files are PEM.
type TLSRule struct {
	// Hosts are names (hooks.example.org), all names below one (*.example.org) or addresses, each with or without a
	// port. Without one, the rule applies to every port.
	Hosts []string `yaml:"hosts"`
	// CA replaces the system's certificate authorities for these hosts; empty: it does not.
	CA string `yaml:"ca"`
	// Cert and Key are presented to the hosts; empty: none.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// MinVersion is 1.2, the default, or 1.3.
	MinVersion string `yaml:"min_version"`
	// ServerName is the name expected in the hosts' certificates; empty: the host of the URL.
	ServerName string `yaml:"server_name"`
}

// filesPause is how long a rule's files are not examined again.
const filesPause = time.Second

// TLSRules holds the rules of all hosts; the first match applies. Files are examined again for new requests, at most
// once a second: renewed files apply to new connections, and existing ones are no longer used. Unusable files leave
// the last good ones in force. A nil *TLSRules has no rules. Safe for concurrent use.
type TLSRules struct {
	// Failed is called with the error when renewed files cannot be used. Set it before the first use.
	Failed func(error)
	list   atomic.Pointer[[]*tlsRule] // replaced, never changed
}

func (t *TLSRules) rules() []*tlsRule {
	if t == nil {
		return nil
	}
	return *t.list.Load()
}

// none reports whether there are no rules at present.
func (t *TLSRules) none() bool { return len(t.rules()) == 0 }

type tlsRule struct {
	TLSRule
	where string
	all   *TLSRules

	mu      sync.Mutex
	config  *tls.Config // replaced, never changed: its identity tells connections apart in the pools
	stamp   string
	checked time.Time
}

// NewTLSRules validates rules and reads the files they name. Errors name the rule by its place, from [0], and what is expected.
func NewTLSRules(rules []TLSRule) (*TLSRules, error) {
	t, list := &TLSRules{}, make([]*tlsRule, 0, len(rules))
	seen := map[string]int{}
	for i := range rules {
		r := &tlsRule{TLSRule: rules[i], where: fmt.Sprintf("[%d]", i), all: t}
		if err := r.check(seen, i); err != nil {
			return nil, fmt.Errorf("%s: %w", r.where, err)
		}
		if _, err := r.current(time.Now()); err != nil {
			return nil, fmt.Errorf("%s: %w", r.where, err)
		}
		list = append(list, r)
	}
	t.list.Store(&list)
	return t, nil
}

// Replace puts the rules of next, which must not be used any more, in force here. Connections go on whose rule and files are the
// same. It reports whether anything is different.
func (t *TLSRules) Replace(next *TLSRules) (changed bool) {
	was, list := t.rules(), slices.Clone(next.rules())
	for i, r := range list {
		same := slices.IndexFunc(was, func(old *tlsRule) bool { return old.equals(r) })
		if same < 0 {
			changed = true
			r.mu.Lock()
			r.all = t
			r.mu.Unlock()
			continue
		}
		list[i] = was[same]
		if list[i].where != r.where {
			changed, list[i] = true, r.inPlaceOf(was[same], t)
		}
	}
	t.list.Store(&list)
	return changed || len(list) != len(was)
}

// equals reports whether two rules, and the files they have read, are the same.
func (r *tlsRule) equals(o *tlsRule) bool {
	r.mu.Lock()
	stamp := r.stamp
	r.mu.Unlock()
	return reflect.DeepEqual(r.TLSRule, o.TLSRule) && stamp == o.stamp
}

// inPlaceOf gives a rule that has moved in the list the configuration that connections were made with.
func (r *tlsRule) inPlaceOf(old *tlsRule, all *TLSRules) *tlsRule {
	old.mu.Lock()
	defer old.mu.Unlock()
	return &tlsRule{TLSRule: r.TLSRule, where: r.where, all: all, config: old.config, stamp: old.stamp, checked: old.checked}
}

func (r *tlsRule) check(seen map[string]int, i int) error {
	if len(r.Hosts) == 0 {
		return errors.New("hosts is empty; expected names such as hooks.example.org or *.example.org")
	}
	for j, pattern := range r.Hosts {
		pattern = strings.ToLower(pattern)
		name := pattern
		if host, port, err := net.SplitHostPort(pattern); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return fmt.Errorf("hosts: %q has an invalid port; expected a name such as hooks.example.org, *.example.org or hooks.example.org:8443", pattern)
			}
			name = host
		}
		name = strings.Trim(name, "[]")
		if _, err := netip.ParseAddr(name); err != nil {
			name = strings.TrimPrefix(name, "*.")
			if err := checkHostSyntax(name); err != nil || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
				return fmt.Errorf("hosts: %q is not a host; expected a name such as hooks.example.org, *.example.org or hooks.example.org:8443", pattern)
			}
		}
		if other, twice := seen[pattern]; twice {
			return fmt.Errorf("hosts: %s is already in [%d]", pattern, other)
		}
		seen[pattern] = i
		r.Hosts[j] = pattern
	}
	switch {
	case (r.Cert == "") != (r.Key == ""):
		return errors.New("cert and key belong together; expected both or neither")
	case r.MinVersion != "" && r.MinVersion != "1.2" && r.MinVersion != "1.3":
		return fmt.Errorf("min_version: %q; expected 1.2 or 1.3", r.MinVersion)
	}
	return nil
}

// Expired describes the client certificates that are not valid now.
func (t *TLSRules) Expired(now time.Time) (out []string) {
	for _, c := range t.Certificates(now) {
		if now.After(c.Leaf.NotAfter) || now.Before(c.Leaf.NotBefore) {
			out = append(out, fmt.Sprintf("%s: cert: %s is valid from %s to %s", c.Rule, c.File, c.Leaf.NotBefore.UTC().Format(time.RFC3339), c.Leaf.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	return out
}

// TLSCertificate is a client certificate that a rule names.
type TLSCertificate struct {
	Rule string // its place: [0]
	File string
	Leaf *x509.Certificate
}

// Certificates returns the client certificates in force.
func (t *TLSRules) Certificates(now time.Time) (out []TLSCertificate) {
	for _, r := range t.rules() {
		c, err := r.current(now)
		if err != nil || len(c.Certificates) == 0 || c.Certificates[0].Leaf == nil {
			continue
		}
		out = append(out, TLSCertificate{r.where, r.Cert, c.Certificates[0].Leaf})
	}
	return out
}

// Len returns the number of rules.
func (t *TLSRules) Len() int { return len(t.rules()) }

// Keys returns the names of the files of private keys.
func (t *TLSRules) Keys() (out []string) {
	for _, r := range t.rules() {
		if r.Key != "" {
			out = append(out, r.Key)
		}
	}
	return out
}

// configFor returns the TLS configuration of host:port; nil: no rule matches. The same pointer means the same files.
func (t *TLSRules) configFor(host, port string) *tls.Config {
	if t.none() {
		return nil
	}
	host = strings.ToLower(host)
	for _, r := range t.rules() {
		if r.matches(host, port) {
			c, err := r.current(time.Now())
			if err != nil {
				return nil // impossible: the files were read before
			}
			return c
		}
	}
	return nil
}

// isCurrent reports whether c is the current configuration of a rule.
func (t *TLSRules) isCurrent(c *tls.Config) bool {
	for _, r := range t.rules() {
		r.mu.Lock()
		is := r.config == c
		r.mu.Unlock()
		if is {
			return true
		}
	}
	return false
}

func (r *tlsRule) matches(host, port string) bool {
	for _, pattern := range r.Hosts {
		name := pattern
		if h, p, err := net.SplitHostPort(pattern); err == nil {
			if p != port {
				continue
			}
			name = h
		}
		name = strings.Trim(name, "[]")
		if below, ok := strings.CutPrefix(name, "*"); name == host || ok && strings.HasSuffix(host, below) {
			return true
		}
	}
	return false
}

func (r *tlsRule) current(now time.Time) (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config != nil && now.Sub(r.checked) < filesPause {
		return r.config, nil
	}
	r.checked = now
	stamp := r.fileStamp()
	if r.config != nil && stamp == r.stamp {
		return r.config, nil
	}
	c, err := r.load()
	switch {
	case err == nil:
		r.config = c
	case r.config == nil:
		return nil, err
	case r.all.Failed != nil:
		r.all.Failed(fmt.Errorf("delivery.tls_file: %s: %w", r.where, err))
	}
	r.stamp = stamp // report these files once
	return r.config, nil
}

// fileStamp changes whenever a file does.
func (r *tlsRule) fileStamp() (out string) {
	for _, f := range []string{r.CA, r.Cert, r.Key} {
		if info, err := os.Stat(f); err == nil {
			out += fmt.Sprintf("%d/%d ", info.ModTime().UnixNano(), info.Size())
		}
	}
	return out
}

func (r *tlsRule) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.ServerName}
	if r.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s contains no certificate; expected PEM", r.CA)
		}
	}
	if r.Cert != "" {
		cert, err := tls.LoadX509KeyPair(r.Cert, r.Key)
		if err != nil {
			return nil, fmt.Errorf("cert, key: %s and %s: %w", r.Cert, r.Key, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// certificateRequested is the context key of an *atomic.Bool that is set when a server requests a client certificate.
type certificateRequested struct{}

// noteCertificateRequests makes a configuration set that flag, and select the certificate that the server accepts, as
// crypto/tls does.
func noteCertificateRequests(c *tls.Config) *tls.Config {
	certificates := c.Certificates
	c.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if asked, ok := info.Context().Value(certificateRequested{}).(*atomic.Bool); ok {
			asked.Store(true)
		}
		for i := range certificates {
			if info.SupportsCertificate(&certificates[i]) == nil {
				return &certificates[i], nil
			}
		}
		return new(tls.Certificate), nil // none
	}
	return c
}

// refusedCertificate wraps the error of the first request over a connection whose server requested a client
// certificate. With TLS 1.3 the server decides after the handshake, and its alert may be lost with the connection.
func refusedCertificate(err error) error {
	return fmt.Errorf("tls: the server requested a client certificate: %w", err)
}
