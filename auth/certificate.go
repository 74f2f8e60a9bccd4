package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// CertificateMapping maps client certificates to principals. The TLS listener verifies the certificates themselves against
// http.tls.client_ca.
type CertificateMapping struct {
	// Subject selects the name: uri or dns (the certificate's only subject alternative name of that kind), or cn for
	// certificates without one.
	Subject string `yaml:"subject"`
	// Roles are granted to every principal with a certificate.
	Roles []string `yaml:"roles"`
	// CRL is a file with certificate revocation lists; empty: none.
	CRL string `yaml:"crl"`
}

func (m *CertificateMapping) check() error {
	if m.CRL != "" {
		if _, err := readRevocations(m.CRL); err != nil {
			return err
		}
	}
	switch m.Subject {
	case "uri", "dns", "cn":
		return nil
	case "":
		m.Subject = "uri"
		return nil
	}
	return fmt.Errorf("subject: %q; expected uri, dns or cn", m.Subject)
}

// Certificates authenticates TLS client certificates that the listener verified.
type Certificates struct {
	mapping CertificateMapping
	now     func() time.Time
	revoked *revocations // nil: no certificate is
}

// NewCertificates makes an Authenticator for client certificates. failed is told when the revocation lists cannot be read any more;
// the last good ones stay in force.
func NewCertificates(m CertificateMapping, now func() time.Time, failed func(error)) *Certificates {
	c := &Certificates{mapping: m, now: now}
	if m.CRL != "" {
		c.revoked = &revocations{path: m.CRL, failed: failed}
	}
	return c
}

// Challenge is empty: TLS requests certificates, not HTTP.
func (c *Certificates) Challenge() string { return "" }

// Authenticate maps the connection's certificate to a principal.
func (c *Certificates) Authenticate(_ context.Context, r *Request) (*Principal, error) {
	tls := r.HTTP.TLS
	if tls == nil || len(tls.PeerCertificates) == 0 {
		return nil, ErrNotMine
	}
	if len(tls.VerifiedChains) == 0 {
		return nil, refuse(MethodCertificate, "the certificate was not verified")
	}
	if err := c.checkRevoked(tls.VerifiedChains); err != nil {
		return nil, err
	}
	name, err := c.subject(tls.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	p := &Principal{Method: MethodCertificate, ID: identity("cert", name), Subject: name, User: name, Roles: c.mapping.Roles,
		Until: tls.PeerCertificates[0].NotAfter}
	if c.revoked != nil {
		p.again = func(context.Context) (*Principal, error) { return p, c.checkRevoked(tls.VerifiedChains) }
	}
	return p, nil
}

// checkRevoked refuses a certificate unless one of its chains has no revoked certificate.
func (c *Certificates) checkRevoked(chains [][]*x509.Certificate) error {
	if c.revoked == nil {
		return nil
	}
	now := c.now()
	for _, chain := range chains {
		if !slices.ContainsFunc(chain, func(cert *x509.Certificate) bool { return c.revoked.has(cert, now) }) {
			return nil
		}
	}
	return refuse(MethodCertificate, "the certificate is revoked")
}

// subject returns the certificate's only name of the selected kind. With two, their order would decide who the caller is.
func (c *Certificates) subject(cert *x509.Certificate) (string, error) {
	var names []string
	switch c.mapping.Subject {
	case "uri":
		for _, u := range cert.URIs {
			names = append(names, u.String())
		}
	case "dns":
		names = cert.DNSNames
	case "cn":
		if cert.Subject.CommonName != "" {
			names = append(names, cert.Subject.CommonName)
		}
	}
	if len(names) != 1 {
		return "", refuse(MethodCertificate, "the certificate has %d names of kind %s, expected one", len(names), c.mapping.Subject)
	}
	return names[0], nil
}
