package raftlog

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLSFiles are the PEM files of mutual TLS between nodes. They are read again for every connection, so that
// renewed certificates need no restart.
type TLSFiles struct {
	CA   string // certificates that sign the nodes' certificates
	Cert string // this node's certificate, with the names or addresses under which others dial it
	Key  string
}

// Check reads the files, to find out early what is wrong with them.
func (f *TLSFiles) Check() error {
	_, err := f.load()
	return err
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
