package raftlog_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// issue makes a certificate for nodes on loopback addresses.
func (a *authority) issue(name string) *raftlog.TLSFiles {
	a.t.Helper()
	key := a.newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
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

func TestOnlyCertificatesOfTheClustersCAMeet(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	for _, c := range []struct {
		name string
		tls  func() *raftlog.TLSFiles // of node-3
	}{
		{"certificate of another CA", func() *raftlog.TLSFiles {
			f := foreign.issue("node-3")
			f.CA = filepath.Join(ours.dir, "ca.pem")
			return f
		}},
		{"plain TCP", func() *raftlog.TLSFiles { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newNetwork(t, 3)
			w.change = func(m *member, o *raftlog.Options) {
				if o.TLS = ours.issue(m.id); m.id == "node-3" {
					o.TLS = c.tls()
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			told := make(chan struct{})
			go func() { // that node-3 is turned away must not be cut short by a busy machine
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
				t.Errorf("the log of node-1 does not speak of TLS:\n%s", log)
			}
		})
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
