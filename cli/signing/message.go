package signing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	httpsig "github.com/remitly-oss/httpsig-go"
)

// Message is an HTTP Message Signature (RFC 9421) over method, authority, path, query and, if there is a body, its digest and type.
type Message struct {
	KeyID string
	// Private is the key in PEM (PKCS #8, PKCS #1 or SEC 1: Ed25519, ECDSA P-256 or P-384, RSA); without it Secret is one of HMAC-SHA256.
	Private []byte
	Secret  []byte
	Tag     string // empty: websub-hub
	Valid   time.Duration
}

// Sign adds Signature, Signature-Input and Content-Digest to a request with this body and returns the signature base.
func (m *Message) Sign(r *http.Request, body []byte) (signed string, _ error) {
	key, algorithm, err := m.key()
	if err != nil {
		return "", err
	}
	fields := []string{"@method", "@authority", "@path", "@query"}
	profile := httpsig.SigningProfile{Algorithm: algorithm, Digest: httpsig.DigestSHA256, ExpiresDuration: m.Valid, Nonce: httpsig.NonceRandom32,
		Metadata: []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaExpires, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag}}
	if len(body) > 0 {
		fields = append(fields, "content-digest")
		if r.Header.Get("Content-Type") != "" {
			fields = append(fields, "content-type")
		}
	}
	profile.Fields = httpsig.Fields(fields...)
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	// httpsig takes host and path as they are; RFC 9421 means the host without the scheme's port, and the path as it is sent.
	as := r.Clone(r.Context())
	as.Host, as.URL = authority(r), &url.URL{Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery}
	as.Body = io.NopCloser(bytes.NewReader(body))
	if err := httpsig.Sign(as, profile, key); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	r.Header = as.Header
	return base(r, fields), nil
}

func (m *Message) key() (k httpsig.SigningKey, _ httpsig.Algorithm, _ error) {
	k.MetaKeyID, k.MetaTag = m.KeyID, m.Tag
	if k.MetaTag == "" {
		k.MetaTag = "websub-hub"
	}
	if m.KeyID == "" {
		return k, "", errors.New("RFC 9421 needs a key, expected its ID")
	}
	if m.Private == nil {
		if len(m.Secret) == 0 {
			return k, "", errors.New("RFC 9421 needs a key, expected a private key in PEM or a secret")
		}
		k.Secret = m.Secret
		return k, httpsig.Algo_HMAC_SHA256, nil
	}
	private, err := privateKey(m.Private)
	if err != nil {
		return k, "", err
	}
	k.Key = private
	switch p := private.(type) {
	case ed25519.PrivateKey:
		return k, httpsig.Algo_ED25519, nil
	case *rsa.PrivateKey:
		return k, httpsig.Algo_RSA_PSS_SHA512, nil
	case *ecdsa.PrivateKey:
		switch p.Curve.Params().BitSize {
		case 256:
			return k, httpsig.Algo_ECDSA_P256_SHA256, nil
		case 384:
			return k, httpsig.Algo_ECDSA_P384_SHA384, nil
		}
	}
	return k, "", errors.New("the private key is of another kind, expected Ed25519, ECDSA P-256 or P-384, or RSA")
}

func privateKey(text []byte) (crypto.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the private key is not PEM, expected PKCS #8, PKCS #1 or SEC 1")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	return nil, errors.New("the private key cannot be read, expected PKCS #8, PKCS #1 or SEC 1, not encrypted")
}

// base returns the signature base (RFC 9421 section 2.5) of a request that has just been signed over these fields.
func base(r *http.Request, fields []string) string {
	var b strings.Builder
	for _, name := range fields {
		var value string
		switch name {
		case "@method":
			value = r.Method
		case "@authority":
			value = authority(r)
		case "@path":
			value = r.URL.EscapedPath()
		case "@query":
			value = "?" + r.URL.RawQuery
		default:
			value = strings.TrimSpace(r.Header.Get(name))
		}
		fmt.Fprintf(&b, "%q: %s\n", name, value)
	}
	_, params, _ := strings.Cut(r.Header.Get("Signature-Input"), "=")
	b.WriteString(`"@signature-params": ` + params)
	return b.String()
}

// authority is the host without the scheme's own port, in lower case (RFC 9421 section 2.2.3).
func authority(r *http.Request) string {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	host = strings.ToLower(host)
	switch r.URL.Scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}
