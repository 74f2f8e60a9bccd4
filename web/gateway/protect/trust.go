package protect

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// TrustFiles are the files that a Trust is made of.
type TrustFiles struct {
	Roots         []string // certificates of authorities, PEM; at least one
	Intermediates []string // certificates of authorities below them, PEM, for parties that do not send them
	// CRLs are revocation lists, PEM or DER, read again when they change. With any, the issuer of every party must have a list
	// that is current; its own issuers' lists count where there are some.
	CRLs []string
	// Usages are extended key usages of which a certificate must have one: clientAuth, serverAuth, emailProtection, codeSigning
	// or any. Without any, it needs none.
	Usages []string
}

// Trust decides which certificates are accepted. It is safe for concurrent use.
type Trust struct {
	roots, intermediates *x509.CertPool
	usages               []x509.ExtKeyUsage

	mu    sync.Mutex
	lists []*crlFile
}

// crlFile is a file of revocation lists, as last read.
type crlFile struct {
	name     string
	modified time.Time
	size     int64
	lists    []*revocations
	err      error // of the last attempt to read it again
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

var usageNames = map[string]x509.ExtKeyUsage{
	"any": x509.ExtKeyUsageAny, "clientAuth": x509.ExtKeyUsageClientAuth, "serverAuth": x509.ExtKeyUsageServerAuth,
	"emailProtection": x509.ExtKeyUsageEmailProtection, "codeSigning": x509.ExtKeyUsageCodeSigning,
}

// LoadTrust reads the files. Errors say which file, and at which line of it, is wrong.
func LoadTrust(f TrustFiles) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), usages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if len(f.Roots) == 0 {
		return nil, errors.New("trust: no roots; expected at least one file of certificates")
	}
	for _, name := range f.Roots {
		if err := addFile(t.roots, name); err != nil {
			return nil, err
		}
	}
	for _, name := range f.Intermediates {
		if err := addFile(t.intermediates, name); err != nil {
			return nil, err
		}
	}
	for i, name := range f.Usages {
		usage, known := usageNames[name]
		if !known {
			return nil, fmt.Errorf("trust: usage %q; expected clientAuth, serverAuth, emailProtection, codeSigning or any", name)
		}
		if i == 0 {
			t.usages = nil
		}
		t.usages = append(t.usages, usage)
	}
	for _, name := range f.CRLs {
		file := &crlFile{name: name}
		if file.refresh(); file.err != nil {
			return nil, file.err
		}
		t.lists = append(t.lists, file)
	}
	return t, nil
}

// NewTrust makes a Trust of texts instead of files: certificates of authorities in PEM, and revocation lists in PEM or DER, which are never read again; nil: none. Errors name the text and the line.
func NewTrust(roots, crl []byte) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), usages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if err := addAuthorities(t.roots, "roots", roots); err != nil {
		return nil, err
	}
	if crl == nil {
		return t, nil
	}
	lists, err := parseCRLs("crl", crl)
	t.lists = append(t.lists, &crlFile{lists: lists})
	return t, err
}

// Err returns what is wrong with a file of revocation lists that has changed since it was last read well, or nil. Until it is
// mended, the lists read before go on until their own ends.
func (t *Trust) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, f := range t.lists {
		f.refresh()
		errs = append(errs, f.err)
	}
	return errors.Join(errs...)
}

// addFile adds the certificates of a PEM file.
func addFile(pool *x509.CertPool, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return addAuthorities(pool, name, text)
}

func addAuthorities(pool *x509.CertPool, name string, text []byte) error {
	blocks, err := parsePEM(name, text)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		at := fmt.Sprintf("%s, line %d", name, b.line)
		if b.Type != "CERTIFICATE" {
			return fmt.Errorf("%s: a %q; expected certificates only", at, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("%s: no certificate: %w", at, err)
		}
		if !c.IsCA {
			return fmt.Errorf("%s: the certificate of %s is not that of an authority", at, c.Subject)
		}
		pool.AddCert(c)
	}
	return nil
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

// refresh reads the file again if it has changed. What cannot be read leaves the lists as they were, and sets err.
func (f *crlFile) refresh() {
	if f.name == "" {
		return // of no file
	}
	info, err := os.Stat(f.name)
	if err != nil {
		f.err = fmt.Errorf("trust: %w", err)
		return
	}
	if info.ModTime().Equal(f.modified) && info.Size() == f.size && f.err == nil {
		return
	}
	var lists []*revocations
	der, err := os.ReadFile(f.name)
	if err != nil {
		err = fmt.Errorf("trust: %w", err)
	} else {
		lists, err = parseCRLs(f.name, der)
	}
	if f.err = err; err == nil {
		f.lists, f.modified, f.size = lists, info.ModTime(), info.Size()
	}
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
	chains, err := c.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: t.usages})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return nil, refuseBecause(err, "the certificate is for another usage (extended key usage)")
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
	for _, f := range t.lists {
		f.refresh()
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
	for _, f := range t.lists {
		for _, l := range f.lists {
			if (newest == nil || l.ThisUpdate.After(newest.ThisUpdate)) && l.isOf(issuer) {
				newest = l
			}
		}
	}
	return newest
}
