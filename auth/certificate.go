package auth

import (
	"context"
	"crypto/x509"
	"fmt"
)

// CertificateMapping says how client certificates become principals. The certificates themselves are checked by the
// TLS listener, against http.tls.client_ca.
type CertificateMapping struct {
	// Subject is the name that counts: uri or dns (the certificate's only subject alternative name of that kind), or
	// cn for certificates of an older making.
	Subject string `yaml:"subject"`
	// Roles are given to every principal that comes with a certificate.
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

// Certificates accepts TLS client certificates that the listener verified.
type Certificates struct{ mapping CertificateMapping }

// NewCertificates makes the authenticator.
func NewCertificates(m CertificateMapping) *Certificates { return &Certificates{mapping: m} }

// Challenge is empty: a certificate is asked for by TLS, not by HTTP.
func (c *Certificates) Challenge() string { return "" }

// Authenticate maps the certificate of the connection.
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
	return &Principal{Method: MethodCertificate, Subject: name, User: name, Roles: c.mapping.Roles}, nil
}

// subject is the one name of the kind that counts. With two of them it would depend on their order who the
// caller is.
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
		return "", refuse(MethodCertificate, "the certificate holds %d names of kind %s, expected one", len(names), c.mapping.Subject)
	}
	return names[0], nil
}
