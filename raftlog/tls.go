package raftlog

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// TLSFiles are the PEM files for mutual TLS between nodes. They are read again for every connection, so renewed
// certificates need no restart.
type TLSFiles struct {
	CA   string // certificates that sign the nodes' certificates
	Cert string // this node's certificate, with its ID and the names or addresses under which other nodes dial it
	Key  string
}

const (
	// uriScheme and uriHost are parts of nodeURI, which identifies the node a certificate is for.
	uriScheme = "quorumhub"
	uriHost   = "cluster"
	// warnBefore is how long before a certificate expires the node begins to warn, every warnEvery.
	warnBefore = 30 * 24 * time.Hour
	warnEvery  = 12 * time.Hour
)

// nodeURI returns the subject alternative name of a node's certificate: quorumhub://cluster/node/<id>. The host is the same for
// all clusters: certificates are issued before a cluster has an ID, and the authority is what separates clusters.
func nodeURI(id string) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: uriHost, Path: "/node/" + id}
}

// speaksFor reports whether a certificate is for node id. A certificate with URIs of this program's scheme is for exactly the
// nodes these name. One without, issued by other tools, is for the node whose ID is its common name or one of its DNS names.
func speaksFor(c *x509.Certificate, id string) bool {
	want, own := nodeURI(id).String(), false
	for _, u := range c.URIs {
		if u.Scheme == uriScheme {
			if u.String() == want {
				return true
			}
			own = true
		}
	}
	return !own && (c.Subject.CommonName == id || slices.ContainsFunc(c.DNSNames, func(n string) bool { return strings.EqualFold(n, id) }))
}

// checkPeer refuses a node that claims to be id but has another node's certificate.
func checkPeer(conn net.Conn, id string) *refusedError {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return nil // plain TCP, which is for loopback only
	}
	certs := t.ConnectionState().PeerCertificates
	if len(certs) > 0 && speaksFor(certs[0], id) {
		return nil
	}
	whose := "no certificate"
	if len(certs) > 0 {
		whose = "the certificate of " + subject(certs[0])
	}
	return refuse(refusedCertificate, "a node claims to be %s but presents %s; issue its certificate with: quorumhub cluster issue-cert --node %s --host ...", id, whose, id)
}

// subject returns the name of a certificate's subject for messages.
func subject(c *x509.Certificate) string {
	for _, u := range c.URIs {
		if id, ok := strings.CutPrefix(u.Path, "/node/"); ok && u.Scheme == uriScheme {
			return id
		}
	}
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return strings.Join(hostsOf(c), ", ")
}

// Check reads the files to detect problems early: missing files, files that do not belong together, or a certificate that is
// not for node id.
func (f *TLSFiles) Check(id string) error {
	c, err := f.load()
	if err != nil {
		return err
	}
	leaf := c.Certificates[0].Leaf
	if !speaksFor(leaf, id) {
		return fmt.Errorf("cluster.tls.cert: %s is the certificate of %s, but this node is %s; issue one with: quorumhub cluster issue-cert --node %s --host ...",
			f.Cert, subject(leaf), id, id)
	}
	// Other nodes would refuse it with a less specific error. They may trust more authorities than this node; that is not
	// checked here.
	var expired x509.CertificateInvalidError
	_, err = leaf.Verify(x509.VerifyOptions{Roots: c.RootCAs, Intermediates: intermediates(&c.Certificates[0]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	switch {
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return fmt.Errorf("cluster.tls.cert: %s is valid from %s to %s; renew it with: quorumhub cluster issue-cert --renew --node %s, or correct this machine's clock",
			f.Cert, moment(leaf.NotBefore), moment(leaf.NotAfter), id)
	case err != nil:
		return fmt.Errorf("cluster.tls.cert: %s does not go with cluster.tls.ca, %s: %w", f.Cert, f.CA, err)
	}
	return nil
}

func intermediates(c *tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(cert)
		}
	}
	return pool
}

// expires returns a warning if this node's certificate expires soon.
func (f *TLSFiles) expires(now time.Time) (warning string, err error) {
	c, err := f.load()
	if err != nil {
		return "", err
	}
	if end := c.Certificates[0].Leaf.NotAfter; end.Sub(now) < warnBefore {
		return fmt.Sprintf("%s expires at %s; renew it with quorumhub cluster issue-cert --renew, no restart needed", f.Cert, moment(end)), nil
	}
	return "", nil
}

func (f *TLSFiles) load() (*tls.Config, error) {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("cluster.tls.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cluster.tls.ca: %s holds no certificate; expected PEM", f.CA)
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("cluster.tls.cert, cluster.tls.key: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		NextProtos:   []string{"quorumhub"},
		// A resumed session would not be checked against renewed certificates.
		SessionTicketsDisabled: true,
	}, nil
}

// server returns the configuration of the listening side.
func (f *TLSFiles) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.load() },
	}
}

// client returns the configuration for dialing host.
func (f *TLSFiles) client(host string) (*tls.Config, error) {
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	c.ServerName = host
	return c, nil
}

// tlsProblem explains in one line why a TLS handshake between two nodes failed, and what to do.
func tlsProblem(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return errors.New("its certificate is not signed by the authority in cluster.tls.ca; one authority signs the certificates of all nodes")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Errorf("its certificate (%s) is valid only from %s to %s; renew it with quorumhub cluster issue-cert --renew, or correct the clocks",
			oneLine(subject(invalid.Cert)), moment(invalid.Cert.NotBefore), moment(invalid.Cert.NotAfter))
	case errors.As(err, &host) && host.Certificate != nil:
		return fmt.Errorf("its certificate is for %s, not for %s as in cluster.peers; issue one with --host %s",
			oneLine(strings.Join(hostsOf(host.Certificate), ", ")), host.Host, host.Host)
	case errors.As(err, &op) && op.Op == "remote error":
		// With TLS 1.3 the other side's verdict arrives after the handshake, as an alert for which crypto/tls exports no
		// type. The other node's log has the details.
		switch text := op.Err.Error(); {
		case strings.Contains(text, "unknown certificate authority"):
			return errors.New("it does not know the authority that signed this node's certificate; one authority signs the certificates of all nodes")
		case strings.Contains(text, "expired certificate"):
			return errors.New("it considers this node's certificate expired; renew it, or correct the clocks")
		case strings.Contains(text, "certificate required"):
			return errors.New("it requires a certificate from this node; set cluster.tls.cert and cluster.tls.key")
		case strings.Contains(text, "bad certificate"):
			return errors.New("it refuses this node's certificate; its log has the reason")
		}
	}
	return err
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
