package raftlog

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"quorumhub/durable"
)

// Files in an authority's directory.
const (
	AuthorityCert = "ca.pem"
	AuthorityKey  = "ca.key"
)

// backdated is how far in the past a certificate's validity begins, for nodes whose clocks are behind.
const backdated = 10 * time.Minute

// Authority is the certificate authority that signs a cluster's node certificates.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// Issued describes a node certificate that was written.
type Issued struct {
	Cert, Key string // paths of the PEM files
	Node      string
	Hosts     []string
	NotAfter  time.Time
}

// CreateAuthority creates an authority (ECDSA P-256) that is valid for the given time. It writes AuthorityCert and AuthorityKey
// to dir, the latter with mode 0600. It never overwrites either: certificates signed with the old key would become useless.
func CreateAuthority(dir string, valid time.Duration) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create an authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create an authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "quorumhub cluster CA " + randomID()[:8]},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(valid),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("create an authority: %w", err)
	}
	if err := writePair(filepath.Join(dir, AuthorityCert), der, filepath.Join(dir, AuthorityKey), key); err != nil {
		return nil, fmt.Errorf("create an authority: %w", err)
	}
	return LoadAuthority(dir)
}

// LoadAuthority reads the authority in dir.
func LoadAuthority(dir string) (*Authority, error) {
	cert, err := readCertificate(filepath.Join(dir, AuthorityCert))
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, AuthorityKey)
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	switch {
	case !cert.IsCA:
		return nil, fmt.Errorf("%s is not a CA certificate; create one with quorumhub cluster init-ca", filepath.Join(dir, AuthorityCert))
	case !samePublic(cert.PublicKey, key.Public()):
		return nil, fmt.Errorf("%s is not the private key of %s", keyFile, filepath.Join(dir, AuthorityCert))
	case time.Now().After(cert.NotAfter):
		return nil, fmt.Errorf("%s expired at %s; create a new authority", filepath.Join(dir, AuthorityCert), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return &Authority{dir: dir, cert: cert, key: key}, nil
}

// CertFile returns the path of the authority's certificate, which every node needs.
func (a *Authority) CertFile() string { return filepath.Join(a.dir, AuthorityCert) }

// NotAfter returns when the authority's certificate expires.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Issue creates a key and a certificate for node, valid for hosts (DNS names and IP addresses). It writes them to dir as
// <node>.pem and <node>.key, the latter with mode 0600, and never overwrites either. The certificate expires no later than the
// authority's.
func (a *Authority) Issue(dir, node string, hosts []string, valid time.Duration) (*Issued, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	out, der, err := a.sign(dir, node, hosts, valid, key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if err := writePair(out.Cert, der, out.Key, key); err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return out, nil
}

// Renew creates a new certificate for the key that Issue wrote to dir. It replaces the old certificate atomically, so a running
// node reads either the old or the new one. If hosts is empty it keeps those of the old certificate.
func (a *Authority) Renew(dir, node string, hosts []string, valid time.Duration) (*Issued, error) {
	certFile, keyFile := nodeFiles(dir, node)
	old, err := readCertificate(certFile)
	if err != nil {
		return nil, fmt.Errorf("renew a certificate: %w", err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("renew a certificate: %w", err)
	}
	if !samePublic(old.PublicKey, key.Public()) {
		return nil, fmt.Errorf("renew a certificate: %s is not the private key of %s", keyFile, certFile)
	}
	if len(hosts) == 0 {
		hosts = hostsOf(old)
	}
	out, der, err := a.sign(dir, node, hosts, valid, key)
	if err != nil {
		return nil, fmt.Errorf("renew a certificate: %w", err)
	}
	if err := durable.WriteFile(certFile, certificatePEM(der), 0o644); err != nil {
		return nil, fmt.Errorf("renew a certificate: %w", err)
	}
	return out, nil
}

func (a *Authority) sign(dir, node string, hosts []string, valid time.Duration, key crypto.Signer) (*Issued, []byte, error) {
	now := time.Now()
	end := now.Add(valid)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: node},
		NotBefore: now.Add(-backdated), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{nodeURI(node)}, BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	out := &Issued{Node: node, Hosts: hosts, NotAfter: end}
	out.Cert, out.Key = nodeFiles(dir, node)
	return out, der, nil
}

func nodeFiles(dir, node string) (cert, key string) {
	return filepath.Join(dir, node+".pem"), filepath.Join(dir, node+".key")
}

func hostsOf(c *x509.Certificate) []string {
	hosts := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // RFC 5280, 4.1.2.2: positive, at most 20 octets
	return new(big.Int).SetBytes(b[:])
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writePair writes a certificate and its key to files that must not exist yet.
func writePair(certFile string, der []byte, keyFile string, key crypto.Signer) error {
	for _, f := range []string{certFile, keyFile} {
		if _, err := os.Lstat(f); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s already exists and is not overwritten", f), err)
		}
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeNew(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return err
	}
	if err := writeNew(certFile, certificatePEM(der), 0o644); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return durable.SyncDir(filepath.Dir(certFile))
}

func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// maxPEM bounds how much of a PEM file is read.
const maxPEM = 1 << 20

func readPEM(name, kind string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%s contains no PEM block of type %s", name, kind)
}

func readCertificate(name string) (*x509.Certificate, error) {
	der, err := readPEM(name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func readKey(name string) (crypto.Signer, error) {
	der, err := readPEM(name, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T cannot sign", name, k)
	}
	return s, nil
}
