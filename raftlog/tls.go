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

// TLSFiles are the PEM files of mutual TLS between nodes. They are read again for every connection, so that
// renewed certificates need no restart.
type TLSFiles struct {
	CA   string // certificates that sign the nodes' certificates
	Cert string // this node's certificate, with its id and the names or addresses under which others dial it
	Key  string
}

const (
	// uriScheme and the rest of nodeURI say which node a certificate is for.
	uriScheme = "quorumhub"
	uriHost   = "cluster"
	// warnBefore is how long before its end a certificate is spoken of, every warnEvery.
	warnBefore = 30 * 24 * time.Hour
	warnEvery  = 12 * time.Hour
)

// nodeURI is the subject alternative name of a node's certificate: quorumhub://cluster/node/<id>. The host is the same for all
// clusters: certificates are issued before a cluster has its id, and the authority is what keeps clusters apart.
func nodeURI(id string) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: uriHost, Path: "/node/" + id}
}

// speaksFor tells whether a certificate is that of node id. One with a URI of this program's scheme is for the nodes it names so,
// and no other. One without, from another authority's tools, is for the node whose id is its common name or one of its DNS names.
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

// checkPeer refuses a node that says it is id with the certificate of another.
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
	return refuse(refusedCertificate, "a node says it is %s and shows %s; issue one with: quorumhub cluster issue-cert --node %s --host ...", id, whose, id)
}

// subject is who a certificate is for, in words.
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

// Check reads the files, to find out early what is wrong with them: that one is missing, that they do not belong together, or
// that the certificate is not for node id.
func (f *TLSFiles) Check(id string) error {
	c, err := f.load()
	if err != nil {
		return err
	}
	leaf := c.Certificates[0].Leaf
	if !speaksFor(leaf, id) {
		return fmt.Errorf("cluster.tls.cert: %s is the certificate of %s, and this node is %s; issue one with: quorumhub cluster issue-cert --node %s --host ...",
			f.Cert, subject(leaf), id, id)
	}
	// The others would refuse it with less to say. A chain that ends elsewhere is for them to judge: they may trust more.
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

// expires is when this node's certificate ends, and the warning that goes with it when that is soon.
func (f *TLSFiles) expires(now time.Time) (warning string, err error) {
	c, err := f.load()
	if err != nil {
		return "", err
	}
	if end := c.Certificates[0].Leaf.NotAfter; end.Sub(now) < warnBefore {
		return fmt.Sprintf("%s ends at %s; renew it with quorumhub cluster issue-cert --renew, no restart needed", f.Cert, moment(end)), nil
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
		// A resumed session would be judged by the certificates of its beginning.
		SessionTicketsDisabled: true,
	}, nil
}

// server is the configuration of the listening side.
func (f *TLSFiles) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.load() },
	}
}

// client is the configuration for dialing host.
func (f *TLSFiles) client(host string) (*tls.Config, error) {
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	c.ServerName = host
	return c, nil
}

// tlsProblem says in one line why two nodes did not come together, and what to do.
func tlsProblem(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return errors.New("its certificate is not signed by the authority in cluster.tls.ca; one authority signs the certificates of all nodes")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Errorf("its certificate (%s) is valid from %s to %s only; renew it with quorumhub cluster issue-cert --renew, or correct the clocks",
			oneLine(subject(invalid.Cert)), moment(invalid.Cert.NotBefore), moment(invalid.Cert.NotAfter))
	case errors.As(err, &host) && host.Certificate != nil:
		return fmt.Errorf("its certificate is for %s, not for %s, as cluster.peers has it; issue one with --host %s",
			oneLine(strings.Join(hostsOf(host.Certificate), ", ")), host.Host, host.Host)
	case errors.As(err, &op) && op.Op == "remote error":
		// With TLS 1.3 the other side's classifyTLS arrives after the handshake. It is one word; the other's log has the rest.
		switch text := op.Err.Error(); {
		case strings.Contains(text, "unknown certificate authority"):
			return errors.New("it does not know the authority that signed this node's certificate; one authority signs the certificates of all nodes")
		case strings.Contains(text, "expired certificate"):
			return errors.New("it takes this node's certificate for expired; renew it, or correct the clocks")
		case strings.Contains(text, "certificate required"):
			return errors.New("it wants a certificate of this node; set cluster.tls.cert and cluster.tls.key")
		case strings.Contains(text, "bad certificate"):
			return errors.New("it refuses this node's certificate; its log says why")
		}
	}
	return err
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
