package raftlog_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = a.newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return k
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue creates a certificate for a node on loopback, as other tools do: the ID is its common name.
func (a *authority) issue(name string, change ...func(*x509.Certificate)) *raftlog.TLSFiles {
	a.t.Helper()
	key := a.newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(freeIP(a.t)), net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	name += "-" + template.SerialNumber.String()
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &raftlog.TLSFiles{
		CA:   filepath.Join(a.dir, "ca.pem"),
		Cert: a.write(name+".pem", "CERTIFICATE", der),
		Key:  a.write(name+".key", "EC PRIVATE KEY", keyDER),
	}
}

func TestThreeNodesOverMutualTLS(t *testing.T) {
	a := newAuthority(t)
	w := newNetwork(t, 3)
	w.change = func(m *member, o *raftlog.Options) { o.TLS = a.issue(m.id) }
	testThreeNodes(t, w)
}

// made is an authority as created by quorumhub cluster init-ca.
type made struct {
	t   *testing.T
	dir string
	*raftlog.Authority
}

func makeAuthority(t *testing.T) *made {
	t.Helper()
	m := &made{t: t, dir: t.TempDir()}
	var err error
	if m.Authority, err = raftlog.CreateAuthority(m.dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *made) issue(node string, hosts ...string) *raftlog.TLSFiles {
	m.t.Helper()
	if len(hosts) == 0 {
		hosts = []string{freeIP(m.t), "127.0.0.1"}
	}
	c, err := m.Issue(m.t.TempDir(), node, hosts, time.Hour)
	if err != nil {
		m.t.Fatal(err)
	}
	return &raftlog.TLSFiles{CA: m.CertFile(), Cert: c.Cert, Key: c.Key}
}

func TestThreeNodesWithIssuedCertificates(t *testing.T) {
	a := makeAuthority(t)
	w := newNetwork(t, 3)
	w.change = func(m *member, o *raftlog.Options) { o.TLS = a.issue(m.id) }
	testThreeNodes(t, w)
}

func TestAuthorityOverwritesNothing(t *testing.T) {
	a := makeAuthority(t)
	if _, err := raftlog.CreateAuthority(a.dir, time.Hour); err == nil || !strings.Contains(err.Error(), "is not overwritten") {
		t.Errorf("a second authority: %v", err)
	}
	dir := t.TempDir()
	c, err := a.Issue(dir, "node-1", []string{"127.0.0.1"}, 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if c.NotAfter.After(a.NotAfter()) {
		t.Errorf("the certificate expires at %v, after its authority at %v", c.NotAfter, a.NotAfter())
	}
	if _, err := a.Issue(dir, "node-1", []string{"127.0.0.1"}, time.Hour); err == nil || !strings.Contains(err.Error(), "is not overwritten") {
		t.Errorf("a second certificate: %v", err)
	}
	for _, key := range []string{filepath.Join(a.dir, raftlog.AuthorityKey), c.Key} {
		if fi, err := os.Stat(key); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, fi.Mode(), err)
		}
	}
	if _, err := raftlog.LoadAuthority(t.TempDir()); err == nil || !strings.Contains(err.Error(), "ca.pem") {
		t.Errorf("no authority: %v", err)
	}
}

// Every kind of certificate mismatch is logged in one line on both sides.
func TestMismatchedCertificatesAreRefused(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	for _, c := range []struct {
		name           string
		files          *raftlog.TLSFiles // of a node that claims to be node-2
		dialed, dialer string            // what node-1 logs when it is dialed and when it dials
	}{
		{"another CA", foreign.issue("node-2"), "not signed by the authority in cluster.tls.ca", "not signed by the authority in cluster.tls.ca"},
		{"expired", ours.issue("node-2", expired), "renew it with quorumhub cluster issue-cert --renew", "renew it with quorumhub cluster issue-cert --renew"},
		{"another node", ours.issue("node-3"), "claims to be node-2 but presents the certificate of node-3", "claims to be node-2 but presents the certificate of node-3"},
		{"named twice, for another node", ours.issue("node-2", func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "quorumhub", Host: "cluster", Path: "/node/node-3"}}
		}), "claims to be node-2 but presents the certificate of node-3", "claims to be node-2 but presents the certificate of node-3"},
		{"another address", ours.issue("node-2", func(c *x509.Certificate) { c.IPAddresses = nil; c.DNSNames = []string{"elsewhere"} }), "",
			"its certificate is for elsewhere, not for " + freeIP(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newNetwork(t, 2)
			w.change = func(m *member, o *raftlog.Options) { o.TLS = ours.issue(m.id) }
			pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
			if err != nil {
				t.Fatal(err)
			}
			l, err := tls.Listen("tcp", w.peers[1].Address, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"quorumhub"}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_ = conn.(*tls.Conn).Handshake() // node-1's verdict matters
					conn.Close()
				}
			})
			wg.Go(func() { _ = w.open(ctx, w.members[0]) }) // waits for node-2 until cancelled
			defer wg.Wait()
			defer l.Close()
			defer cancel()
			log := w.logs[w.members[0]]
			logs := func(what, words string) {
				if words != "" {
					eventually(t, "node-1 logs "+words, func() bool {
						for l := range strings.Lines(log.String()) {
							if strings.Contains(l, what) && strings.Contains(l, words) {
								return true
							}
						}
						return false
					})
				}
			}
			logs("cannot connect to a node", c.dialer)
			conn, err := tls.Dial("tcp", w.peers[0].Address, &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, NextProtos: []string{"quorumhub"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			hello := `{"version":1,"node":"node-2","instance":"x","token":"a token"}`
			if _, err := conn.Write(append([]byte{'C', 0, byte(len(hello))}, hello...)); err != nil {
				t.Fatal(err)
			}
			logs("refused a", c.dialed)
		})
	}
}

func TestNodeChecksItsOwnCertificate(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	mixed := foreign.issue("node-1")
	mixed.CA = filepath.Join(ours.dir, "ca.pem")
	for _, c := range []struct {
		name  string
		files *raftlog.TLSFiles
		words string
	}{
		{"of another node", ours.issue("node-2"), "is the certificate of node-2, but this node is node-1"},
		{"of another CA", mixed, "does not go with cluster.tls.ca"},
		{"expired", ours.issue("node-1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "renew it with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newNetwork(t, 1)
			w.change = func(_ *member, o *raftlog.Options) { o.TLS = c.files }
			if err := w.open(context.Background(), w.members[0]); err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A renewed certificate is used for new connections in both directions without a restart.
func TestRenewedCertificateNeedsNoRestart(t *testing.T) {
	a := makeAuthority(t)
	files := map[string]*raftlog.TLSFiles{}
	w := newNetwork(t, 3)
	for _, m := range w.members {
		files[m.id] = a.issue(m.id)
	}
	w.change = func(m *member, o *raftlog.Options) { o.TLS = files[m.id] }
	w.start()
	pair, err := tls.LoadX509KeyPair(files["node-3"].Cert, files["node-3"].Key)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() *big.Int {
		conn, err := tls.Dial("tcp", w.address(w.members[0]), &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, NextProtos: []string{"quorumhub"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber
	}
	before := shown()
	for id, f := range files {
		if _, err := a.Renew(filepath.Dir(f.Cert), id, nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if after := shown(); after.Cmp(before) == 0 {
		t.Error("node-1 still presents the old certificate")
	}
	f := w.follower()
	w.crash(f) // it comes back over new connections
	if err := w.open(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	w.ready(f)
	if _, err := f.node.Propose(context.Background(), publish("a", "y")); err != nil {
		t.Error(err)
	}
}

// A node that speaks plain TCP to nodes with TLS is reported on both sides.
func TestPlainTCPNodeIsRefusedByTLSNodes(t *testing.T) {
	ours := newAuthority(t)
	w := newNetwork(t, 3)
	w.change = func(m *member, o *raftlog.Options) {
		if o.TLS = ours.issue(m.id); m.id == "node-3" {
			o.TLS = nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	told := make(chan struct{})
	go func() { // on a busy machine the refusal of node-3 may take a while
		defer close(told)
		for ctx.Err() == nil && !strings.Contains(w.logs[w.members[0]].String(), "TLS") {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	defer func() { <-told }()
	for i, err := range w.openAll(ctx) {
		if err == nil {
			t.Errorf("%s started", w.members[i].id)
		}
	}
	if log := w.logs[w.members[0]].String(); !strings.Contains(log, "TLS") {
		t.Errorf("the log of node-1 does not mention TLS:\n%s", log)
	}
}

func TestPlainTCPIsForLoopbackOnly(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	m := newMember(t, "node-1")
	m.options = func(o *raftlog.Options) {
		o.Listener, o.Peers = l, []raftlog.Peer{{ID: "node-1", Address: "127.0.0.1:1"}}
	}
	if err := m.open(context.Background()); err == nil || !strings.Contains(err.Error(), "cluster.tls.ca") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	m.options = func(o *raftlog.Options) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listener, o.Peers = l, []raftlog.Peer{{ID: "node-1", Address: l.Addr().String()}}
		o.TLS = &raftlog.TLSFiles{CA: "missing.pem", Cert: "missing.pem", Key: "missing.pem"}
	}
	if err := m.open(context.Background()); err == nil || !strings.Contains(err.Error(), "cluster.tls.ca: open missing.pem") {
		t.Errorf("got %v", err)
	}
}
