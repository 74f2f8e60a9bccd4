package protect

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Trust decides which certificates are accepted. It is safe for concurrent use.
type Trust struct {
	roots, intermediates *x509.CertPool

	mu    sync.Mutex // for what lists remember
	lists []*revocations
}

// revocations is a list that is quick to ask.
type revocations struct {
	*x509.RevocationList
	serials  map[string]bool // the certificates on it
	signedBy map[string]bool // by public key: whether it is of that authority; there are as many as authorities of this name
}

func (r *revocations) has(c *x509.Certificate) bool { return r.serials[string(c.SerialNumber.Bytes())] }

func (r *revocations) isOf(issuer *x509.Certificate) bool {
	if !bytes.Equal(r.RawIssuer, issuer.RawSubject) {
		return false
	}
	key := string(issuer.RawSubjectPublicKeyInfo)
	ok, known := r.signedBy[key]
	if !known {
		ok = r.CheckSignatureFrom(issuer) == nil
		r.signedBy[key] = ok
	}
	return ok
}

// NewTrust makes a Trust of the certificates of authorities, in PEM, and of their revocation lists, in PEM or DER; nil: none. Of the
// authorities, those that issued themselves are roots, and the others below them; if none did, all are roots. With any list, the
// issuer of every party must have one that is current; its own issuers' lists count where there are some. Errors name the text,
// roots or crl, and the line.
func NewTrust(roots, crl []byte) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	all, err := authorities("roots", roots)
	if err != nil {
		return nil, err
	}
	rooted := slices.ContainsFunc(all, issuedItself)
	for _, c := range all {
		if !rooted || issuedItself(c) {
			t.roots.AddCert(c)
		} else {
			t.intermediates.AddCert(c)
		}
	}
	if crl == nil {
		return t, nil
	}
	t.lists, err = parseCRLs("crl", crl)
	return t, err
}

func issuedItself(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func authorities(name string, text []byte) (out []*x509.Certificate, _ error) {
	blocks, err := parsePEM(name, text)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		at := fmt.Sprintf("%s, line %d", name, b.line)
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a %q; expected certificates only", at, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: no certificate: %w", at, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %s is not that of an authority", at, c.Subject)
		}
		out = append(out, c)
	}
	return out, nil
}

type pemBlock struct {
	*pem.Block
	line int // at which it begins
}

// parsePEM reads all blocks of a text. pem.Decode passes over what it cannot read; here that is an error.
func parsePEM(name string, text []byte) ([]pemBlock, error) {
	begin := []byte("-----BEGIN ")
	var blocks []pemBlock
	for rest, line := text, 1; ; {
		start := bytes.Index(rest, begin)
		if start < 0 {
			break
		}
		line += bytes.Count(rest[:start], []byte("\n"))
		block, after := pem.Decode(rest[start:])
		used := rest[start : len(rest)-len(after)]
		if block == nil || bytes.Count(used, begin) != 1 {
			return nil, fmt.Errorf("%s, line %d: the PEM block cannot be read", name, line)
		}
		blocks = append(blocks, pemBlock{block, line})
		line += bytes.Count(used, []byte("\n"))
		rest = after
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%s, line 1: no PEM block", name)
	}
	return blocks, nil
}

// Extensions that change what a revocation list says (RFC 5280 section 5.2): without reading them it would be misunderstood.
var partialLists = []asn1.ObjectIdentifier{{2, 5, 29, 27}, {2, 5, 29, 28}}

func parseCRLs(name string, der []byte) (_ []*revocations, err error) {
	blocks := []pemBlock{{&pem.Block{Type: "X509 CRL", Bytes: der}, 1}}
	if bytes.Contains(der, []byte("-----BEGIN ")) {
		if blocks, err = parsePEM(name, der); err != nil {
			return nil, err
		}
	}
	var lists []*revocations
	for _, b := range blocks {
		at := fmt.Sprintf("%s, line %d", name, b.line)
		if b.Type != "X509 CRL" {
			return nil, fmt.Errorf("%s: a %q; expected revocation lists (X509 CRL) only", at, b.Type)
		}
		list, err := x509.ParseRevocationList(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: no revocation list: %w", at, err)
		}
		for _, e := range list.Extensions {
			if slices.ContainsFunc(partialLists, e.Id.Equal) && e.Critical {
				return nil, fmt.Errorf("%s: a revocation list for a part of the certificates; expected a full one", at)
			}
		}
		r := &revocations{list, make(map[string]bool, len(list.RevokedCertificateEntries)), map[string]bool{}}
		for _, e := range list.RevokedCertificateEntries {
			r.serials[string(e.SerialNumber.Bytes())] = true
		}
		lists = append(lists, r)
	}
	return lists, nil
}

// verify returns the chain of a certificate to a root, and refuses one that is not valid now or revoked.
func (t *Trust) verify(c *x509.Certificate, others []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	if err := checkDates(c, now); err != nil {
		return nil, err
	}
	intermediates := t.intermediates
	if len(others) > 0 {
		intermediates = intermediates.Clone()
		for _, o := range others {
			intermediates.AddCert(o)
		}
	}
	chains, err := c.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return nil, refuseBecause(err, "a certificate of the certificate's authority is not valid now")
	case err != nil:
		return nil, refuseBecause(err, "the certificate is not issued by an authority that is trusted here")
	}
	var refused error
	for _, chain := range chains {
		if refused = t.revoked(chain, now); refused == nil {
			return chain, nil
		}
	}
	return nil, refused
}

// revoked refuses a chain with a certificate on a revocation list, or whose first certificate no current list covers.
func (t *Trust) revoked(chain []*x509.Certificate, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lists) == 0 {
		return nil
	}
	for i := range len(chain) - 1 {
		c, issuer := chain[i], chain[i+1]
		list := t.listLocked(issuer)
		switch {
		case list == nil && i == 0:
			return refuse("there is no revocation list of the certificate's issuer")
		case list == nil:
			continue
		case now.Before(list.ThisUpdate):
			return refuse("the revocation list of the certificate's issuer is not valid before %s", day(list.ThisUpdate))
		case !list.NextUpdate.IsZero() && now.After(list.NextUpdate):
			return refuse("the revocation list of the certificate's issuer has ended on %s", day(list.NextUpdate))
		}
		if list.has(c) {
			return refuse("the certificate is revoked")
		}
	}
	return nil
}

// listLocked returns the newest list that an authority has signed, or nil.
func (t *Trust) listLocked(issuer *x509.Certificate) *revocations {
	var newest *revocations
	for _, l := range t.lists {
		if (newest == nil || l.ThisUpdate.After(newest.ThisUpdate)) && l.isOf(issuer) {
			newest = l
		}
	}
	return newest
}
