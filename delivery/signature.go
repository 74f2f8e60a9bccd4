package delivery

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // WebSub section 7.1 names it, and old subscribers know nothing else
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Signature methods of WebSub section 7.1.
const (
	SHA1   = "sha1"
	SHA256 = "sha256"
	SHA384 = "sha384"
	SHA512 = "sha512"
)

func hashOf(method string) (func() hash.Hash, error) {
	switch method {
	case SHA1:
		return sha1.New, nil
	case SHA256:
		return sha256.New, nil
	case SHA384:
		return sha512.New384, nil
	case SHA512:
		return sha512.New, nil
	}
	return nil, fmt.Errorf("signature method %q: expected sha1, sha256, sha384 or sha512", method)
}

// Signer makes X-Hub-Signature values with one secret. It reuses the key schedule from message to message. Not safe
// for concurrent use.
type Signer struct {
	method string
	mac    hash.Hash
	sum    [sha512.Size]byte
	out    []byte // the method, "=", and room for the digits
}

// NewSigner returns a signer. The only error is an unknown method.
func NewSigner(method string, secret []byte) (*Signer, error) {
	h, err := hashOf(method)
	if err != nil {
		return nil, err
	}
	s := &Signer{method: method, mac: hmac.New(h, secret)}
	s.out = append(make([]byte, 0, len(method)+1+2*s.mac.Size()), method...)
	s.out = append(s.out, '=')
	return s, nil
}

// Sign returns method=hexdigest over body (WebSub section 7.1).
func (s *Signer) Sign(body []byte) string {
	s.mac.Reset()
	s.mac.Write(body) // never fails
	return s.finish()
}

// SignReader is Sign for a body that it reads to the end. It returns the reader's error.
func (s *Signer) SignReader(body io.Reader) (string, error) {
	s.mac.Reset()
	if _, err := io.Copy(s.mac, body); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return s.finish(), nil
}

func (s *Signer) finish() string {
	sum := s.mac.Sum(s.sum[:0])
	return string(hex.AppendEncode(s.out[:len(s.method)+1], sum))
}

// Sign returns the X-Hub-Signature value method=hexdigest of a body. The only error is an unknown method.
func Sign(method string, secret, body []byte) (string, error) {
	s, err := NewSigner(method, secret)
	if err != nil {
		return "", err
	}
	return s.Sign(body), nil
}

// Verify reports whether header is a valid X-Hub-Signature value for body, in constant time for a given method. An
// unknown method is not valid.
func Verify(header string, secret, body []byte) bool {
	method, digits, ok := strings.Cut(header, "=")
	if !ok {
		return false
	}
	want, err := Sign(method, secret, body)
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(want[len(method)+1:]), []byte(strings.ToLower(digits))) == 1
}
