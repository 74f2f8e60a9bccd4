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

	"github.com/google/renameio/v2"
)

// Files of an authority, in its directory.
const (
	AuthorityCert = "ca.pem"
	AuthorityKey  = "ca.key"
)

// backdated is how far before now a certificate begins, for nodes whose clock is late.
const backdated = 10 * time.Minute

// Authority signs the certificates of a cluster's nodes.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// Issued is a node's certificate as it was written.
type Issued struct {
	Cert, Key string // paths of the PEM files
	Node      string
	Hosts     []string
	NotAfter  time.Time
}

// CreateAuthority makes an authority (ECDSA P-256) that is valid for the given time, and writes AuthorityCert and AuthorityKey
// to dir, the latter with mode 0600. It never overwrites either: certificates signed before would be worthless.
func CreateAuthority(dir string, valid time.Duration) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "quorumhub cluster CA " + randomID()[:8]},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(valid),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	if err := writePair(filepath.Join(dir, AuthorityCert), der, filepath.Join(dir, AuthorityKey), key); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
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
		return nil, fmt.Errorf("%s is no certificate of an authority; make one with quorumhub cluster init-ca", filepath.Join(dir, AuthorityCert))
	case !samePublic(cert.PublicKey, key.Public()):
		return nil, fmt.Errorf("%s is not the key of %s", keyFile, filepath.Join(dir, AuthorityCert))
	case time.Now().After(cert.NotAfter):
		return nil, fmt.Errorf("%s has expired at %s; make a new authority", filepath.Join(dir, AuthorityCert), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return &Authority{dir: dir, cert: cert, key: key}, nil
}

// CertFile is the path of the authority's certificate, which every node needs.
func (a *Authority) CertFile() string { return filepath.Join(a.dir, AuthorityCert) }

// NotAfter is when the authority's certificate ends.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Issue makes a key and a certificate with which a node introduces itself as node and is reached under hosts (DNS names
// and IP addresses), and writes them to dir as <node>.pem and <node>.key, the latter with mode 0600. It never overwrites either.
// The certificate ends no later than the authority's.
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

// Renew makes a new certificate for the key that Issue wrote to dir, and puts it in the old one's place in one step, so that a
// running node meets either of them. Without hosts it keeps those of the old one.
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
		return nil, fmt.Errorf("renew a certificate: %s is not the key of %s", keyFile, certFile)
	}
	if len(hosts) == 0 {
		hosts = hostsOf(old)
	}
	out, der, err := a.sign(dir, node, hosts, valid, key)
	if err != nil {
		return nil, fmt.Errorf("renew a certificate: %w", err)
	}
	if err := renameio.WriteFile(certFile, certificatePEM(der), 0o644); err != nil {
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

// writePair writes a certificate and its key to files that must not exist.
func writePair(certFile string, der []byte, keyFile string, key crypto.Signer) error {
	for _, f := range []string{certFile, keyFile} {
		if _, err := os.Lstat(f); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s exists, and is not overwritten", f), err)
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
	return syncDir(filepath.Dir(certFile))
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

// maxPEM bounds what is read of a PEM file.
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
	return nil, fmt.Errorf("%s holds no %s in PEM", name, kind)
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
