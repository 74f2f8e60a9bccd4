package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"sync"
	"time"
)

// revocations is a file with certificate revocation lists (RFC 5280), in PEM or DER. It is looked at again for new
// requests, at most once a second; while it cannot be read, the last good lists stay in force. Whoever may write the
// file may write auth.file, so the lists' signatures are not checked, and a list that is out of date still revokes.
// Safe for concurrent use.
type revocations struct {
	path   string
	failed func(error) // is told once of a file that cannot be read; nil: nobody

	mu      sync.Mutex
	revoked map[revokedKey]struct{} // nil: not read yet
	stamp   string
	checked time.Time
}

// revokedKey is the issuer and the serial number of a certificate.
type revokedKey struct{ issuer, serial string }

// has reports whether a certificate is revoked. As long as the file has never been read all are.
func (r *revocations) has(cert *x509.Certificate, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.checked) >= time.Second {
		r.checked = now
		r.refresh()
	}
	_, revoked := r.revoked[revokedKey{string(cert.RawIssuer), serialOf(cert)}]
	return revoked || r.revoked == nil
}

func serialOf(cert *x509.Certificate) string {
	if cert.SerialNumber == nil {
		return ""
	}
	return cert.SerialNumber.String()
}

// refresh reads the file if it has changed.
func (r *revocations) refresh() {
	stamp := r.stampOf()
	if stamp == r.stamp && r.revoked != nil {
		return
	}
	r.stamp = stamp
	revoked, err := readRevocations(r.path)
	if err == nil {
		r.revoked = revoked
	} else if r.failed != nil {
		r.failed(err)
	}
}

// stampOf returns a text that changes when the file does.
func (r *revocations) stampOf() string {
	info, err := os.Stat(r.path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", info.ModTime().UnixNano(), info.Size())
}

func readRevocations(path string) (map[revokedKey]struct{}, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("crl: %w", err)
	}
	lists := [][]byte{data}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		lists = nil
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "X509 CRL" {
				lists = append(lists, block.Bytes)
			}
		}
		if lists == nil {
			return nil, fmt.Errorf("crl %s: contains no PEM block of type X509 CRL", path)
		}
	}
	out := map[revokedKey]struct{}{}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("crl %s: %w", path, err)
		}
		for i := range list.RevokedCertificateEntries {
			out[revokedKey{string(list.RawIssuer), list.RevokedCertificateEntries[i].SerialNumber.String()}] = struct{}{}
		}
	}
	return out, nil
}
