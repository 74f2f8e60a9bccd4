package auth

import (
	"context"
	"crypto/x509"
	"fmt"
)

// CertificateMapping maps client certificates to principals. The TLS listener verifies the certificates themselves against
// http.tls.client_ca.
type CertificateMapping struct {
	// Subject selects the name: uri or dns (the certificate's only subject alternative name of that kind), or cn for
	// certificates without one.
	Subject string `yaml:"subject"`
	// Roles are granted to every principal with a certificate.
	Roles []string `yaml:"roles"`
}

func (m *CertificateMapping) check() error {
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
type Certificates struct{ mapping CertificateMapping }

// NewCertificates makes an Authenticator for client certificates.
func NewCertificates(m CertificateMapping) *Certificates { return &Certificates{mapping: m} }

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
	name, err := c.subject(tls.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	return &Principal{Method: MethodCertificate, ID: identity("cert", name), Subject: name, User: name, Roles: c.mapping.Roles,
		Until: tls.PeerCertificates[0].NotAfter}, nil
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
