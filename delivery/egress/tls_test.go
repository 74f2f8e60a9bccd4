package egress_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
)

// testCA signs certificates for tests.
type testCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	n    int64
}

func newTestCA(t *testing.T, name string) *testCA {
	t.Helper()
	ca := &testCA{t: t, dir: t.TempDir()}
	ca.key = newECKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.write("ca.pem", "CERTIFICATE", der)
	return ca
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (ca *testCA) write(name, kind string, der []byte) {
	ca.t.Helper()
	tmp := filepath.Join(ca.dir, name+".new")
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(ca.dir, name)); err != nil {
		ca.t.Fatal(err)
	}
}

func (ca *testCA) path(name string) string { return filepath.Join(ca.dir, name) }

func (ca *testCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// issue makes a certificate for a client or a server, with files name.pem and name.key.
func (ca *testCA) issue(name, commonName string, end time.Duration, hosts ...string) tls.Certificate {
	ca.t.Helper()
	ca.n++
	key := newECKey(ca.t)
	template := &x509.Certificate{SerialNumber: big.NewInt(ca.n + 1), Subject: pkix.Name{CommonName: commonName}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(end),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	ca.write(name+".pem", "CERTIFICATE", der)
	ca.write(name+".key", "PRIVATE KEY", text)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// mutual is an HTTPS server that records the client certificate of each request.
type mutual struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // common names; "-": no certificate
}

func newMutual(t *testing.T, cert tls.Certificate, change func(*tls.Config)) *mutual {
	m := &mutual{}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "-"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		m.mu.Lock()
		m.seen = append(m.seen, name)
		m.mu.Unlock()
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
		}
	}))
	m.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	change(m.TLS)
	m.EnableHTTP2 = true
	m.Config.ErrorLog = log.New(io.Discard, "", 0)
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

// names returns the common names seen since the last call.
func (m *mutual) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.seen
	m.seen = nil
	return out
}

func (m *mutual) host() string {
	u, _ := url.Parse(m.URL)
	return u.Host
}

// caller makes requests in every way a Client offers.
type caller struct {
	t      *testing.T
	client *egress.Client
}

func newCaller(t *testing.T, rules *egress.TLSRules) *caller {
	t.Helper()
	c := egress.NewClient(fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback}), egress.ClientOptions{TLS: rules})
	t.Cleanup(c.Close)
	return &caller{t, c}
}

// ways is the number of ways to make a request.
const ways = 3

// call makes a request in each way and expects the same outcome.
func (c *caller) call(target string) posted {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	first := post(ctx, c.t, c.client, target, []byte("x"))
	for name, trip := range map[string]http.RoundTripper{"RoundTrip": c.client, "HTTPClient": c.client.HTTPClient(0).Transport} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		resp, err := trip.RoundTrip(req)
		got := posted{reason: egress.Classify(ctx, err)}
		if err == nil {
			got.status = resp.StatusCode
			_ = resp.Body.Close()
		}
		if got != first {
			c.t.Errorf("%s: %+v, Post: %+v", name, got, first)
		}
	}
	return first
}

func rulesOf(t *testing.T, rules ...egress.TLSRule) *egress.TLSRules {
	t.Helper()
	r, err := egress.NewTLSRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func requireClient(ca *testCA) func(*tls.Config) {
	return func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool() }
}

// Each host gets the certificate of its rule and no other, whichever way a request is made, and from no pooled
// connection.
func TestClientCertificatesGoToTheirHostsOnly(t *testing.T) {
	ca, other := newTestCA(t, "one"), newTestCA(t, "other")
	a := newMutual(t, ca.issue("server-a", "server", time.Hour, "127.0.0.1"), requireClient(ca))
	b := newMutual(t, other.issue("server-b", "server", time.Hour, "127.0.0.1"), requireClient(other))
	// c requests a certificate of any authority, and accepts clients without one.
	c := newMutual(t, ca.issue("server-c", "server", time.Hour, "127.0.0.1"), func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert })
	ca.issue("client", "client of a", time.Hour)
	other.issue("client", "client of b", time.Hour)
	call := newCaller(t, rulesOf(t,
		egress.TLSRule{Hosts: []string{a.host()}, CA: ca.path("ca.pem"), Cert: ca.path("client.pem"), Key: ca.path("client.key")},
		egress.TLSRule{Hosts: []string{b.host()}, CA: other.path("ca.pem"), Cert: other.path("client.pem"), Key: other.path("client.key")},
		egress.TLSRule{Hosts: []string{"*.example.org", c.host()}, CA: ca.path("ca.pem")}))
	var wg sync.WaitGroup
	for range 10 {
		for _, m := range []*mutual{a, b, c} {
			wg.Go(func() {
				if res := call.call(m.URL); res.status != 200 {
					t.Errorf("%+v", res)
				}
			})
		}
	}
	wg.Wait()
	for want, m := range map[string]*mutual{"client of a": a, "client of b": b, "-": c} {
		names := m.names()
		if len(names) != 10*ways || slices.ContainsFunc(names, func(n string) bool { return n != want }) {
			t.Errorf("saw %v, want only %q", names, want)
		}
	}
}

// A TLS failure on either side is of class tls, and reveals nothing else.
func TestTLSFailures(t *testing.T) {
	ca, other := newTestCA(t, "one"), newTestCA(t, "other")
	good := newMutual(t, ca.issue("server", "server", time.Hour, "127.0.0.1"), requireClient(ca))
	old := newMutual(t, ca.issue("old", "server", -time.Hour, "127.0.0.1"), requireClient(ca))
	elsewhere := newMutual(t, ca.issue("elsewhere", "server", time.Hour, "hooks.example.org"), requireClient(ca))
	twelve := newMutual(t, ca.issue("twelve", "server", time.Hour, "127.0.0.1"), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	eleven := newMutual(t, ca.issue("eleven", "server", time.Hour, "127.0.0.1"), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 })
	ca.issue("client", "client", time.Hour)
	ca.issue("expired", "client", -time.Hour)
	other.issue("client", "client", time.Hour)
	right := egress.TLSRule{CA: ca.path("ca.pem"), Cert: ca.path("client.pem"), Key: ca.path("client.key")}
	for name, tc := range map[string]struct {
		to    *mutual
		rule  func(*egress.TLSRule)
		fails bool
	}{
		"valid":                                {good, func(*egress.TLSRule) {}, false},
		"no client certificate":                {good, func(r *egress.TLSRule) { r.Cert, r.Key = "", "" }, true},
		"a client certificate of another CA":   {good, func(r *egress.TLSRule) { r.Cert, r.Key = other.path("client.pem"), other.path("client.key") }, true},
		"an expired client certificate":        {good, func(r *egress.TLSRule) { r.Cert, r.Key = ca.path("expired.pem"), ca.path("expired.key") }, true},
		"another authority than the server's":  {good, func(r *egress.TLSRule) { r.CA = other.path("ca.pem") }, true},
		"the system's authorities":             {good, func(r *egress.TLSRule) { r.CA = "" }, true},
		"a rule for another port":              {good, func(r *egress.TLSRule) { r.Hosts = []string{"127.0.0.1:1"} }, true},
		"an expired server certificate":        {old, func(*egress.TLSRule) {}, true},
		"a server certificate of another name": {elsewhere, func(*egress.TLSRule) {}, true},
		"the name is configured":               {elsewhere, func(r *egress.TLSRule) { r.ServerName = "hooks.example.org" }, false},
		"another name is expected":             {good, func(r *egress.TLSRule) { r.ServerName = "hooks.example.org" }, true},
		"TLS 1.2":                              {twelve, func(*egress.TLSRule) {}, false},
		"TLS 1.2 where 1.3 is required":        {twelve, func(r *egress.TLSRule) { r.MinVersion = "1.3" }, true},
		"TLS 1.1":                              {eleven, func(*egress.TLSRule) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			rule := right
			rule.Hosts = []string{"127.0.0.1"}
			tc.rule(&rule)
			want := posted{status: 200}
			if tc.fails {
				want = posted{reason: egress.ReasonTLS}
			}
			if got := newCaller(t, rulesOf(t, rule)).call(tc.to.URL); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// Renewed files apply to new requests without a restart; existing connections are no longer used. Unusable files are
// reported, and the previous ones stay in force.
func TestRenewedClientCertificate(t *testing.T) {
	ca := newTestCA(t, "one")
	m := newMutual(t, ca.issue("server", "server", time.Hour, "127.0.0.1"), requireClient(ca))
	ca.issue("client", "first", time.Hour)
	rules := rulesOf(t, egress.TLSRule{Hosts: []string{"127.0.0.1"}, CA: ca.path("ca.pem"), Cert: ca.path("client.pem"), Key: ca.path("client.key")})
	failed := make(chan error, 100)
	rules.Failed = func(err error) { failed <- err }
	call := newCaller(t, rules)
	all := func() (names []string) {
		t.Helper()
		if res := call.call(m.URL); res.status != 200 {
			t.Fatalf("%+v", res)
		}
		return m.names()
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("did not happen: %s", what)
			}
		}
	}
	if got := all(); !slices.Equal(got, slices.Repeat([]string{"first"}, ways)) {
		t.Fatalf("before: %v", got)
	}
	ca.issue("client", "second", time.Hour)
	until("the new certificate is shown", func() bool { return slices.Equal(all(), slices.Repeat([]string{"second"}, ways)) })
	for range 5 {
		if got := all(); !slices.Equal(got, slices.Repeat([]string{"second"}, ways)) {
			t.Errorf("after: %v", got)
		}
	}
	if err := os.WriteFile(ca.path("client.key"), []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	until("the broken file is reported", func() bool { all(); return len(failed) > 0 })
	if err := <-failed; !strings.Contains(err.Error(), ca.path("client.key")) || strings.Contains(err.Error(), "not a key") {
		t.Errorf("reported: %v", err)
	}
	for range 3 {
		all()
	}
	if len(failed) > 0 {
		t.Errorf("reported again: %v", <-failed)
	}
	ca.issue("client", "third", time.Hour)
	until("the mended files are used", func() bool { return slices.Equal(all(), slices.Repeat([]string{"third"}, ways)) })
}

func TestInvalidTLSRules(t *testing.T) {
	ca := newTestCA(t, "one")
	ca.issue("client", "client", time.Hour)
	ca.issue("another", "client", time.Hour)
	ca.issue("expired", "client", -time.Hour)
	if err := os.WriteFile(ca.path("empty.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := ca.path
	for text, want := range map[string]string{
		"- {hosts: [a.example], ca: " + p("none.pem") + "}":                                    "[0]: ca: open " + p("none.pem"),
		"- {hosts: [a.example], ca: " + p("empty.pem") + "}":                                   p("empty.pem") + " contains no certificate; expected PEM",
		"- {hosts: [a.example], cert: " + p("client.pem") + "}":                                "cert and key belong together",
		"- {hosts: [a.example], cert: " + p("client.pem") + ", key: " + p("another.key") + "}": "private key does not match public key",
		"- {hosts: [a.example], cert: " + p("none.pem") + ", key: " + p("client.key") + "}":    "no such file",
		"- {hosts: [a.example], min_version: \"1.1\"}":                                         "expected 1.2 or 1.3",
		"- {ca: " + p("ca.pem") + "}":                                                          "hosts is empty",
		"- {hosts: ['https://a.example/']}":                                                    "invalid port",
		"- {hosts: [a.example]}\n- {hosts: [b.example, A.example]}":                            "[1]: hosts: a.example is already in [0]",
		"- {hosts: ['a b']}": "is not a host",
	} {
		var rules []egress.TLSRule
		if err := yaml.Unmarshal([]byte(text), &rules); err != nil {
			t.Fatal(err)
		}
		if _, err := egress.NewTLSRules(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	rules := rulesOf(t, egress.TLSRule{Hosts: []string{"a.example"}, Cert: p("expired.pem"), Key: p("expired.key")})
	if got := rules.Expired(time.Now()); len(got) != 1 || !strings.Contains(got[0], p("expired.pem")) {
		t.Errorf("expired: %v", fmt.Sprint(got))
	}
}
