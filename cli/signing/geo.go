// Package signing signs requests as clients of a hub and its gateway must, and says what was signed.
package signing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // for keys whose hub is configured with it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// GEO is a signature by GEO-Auth: in the query of a GET or HEAD, in the header GEO-Auth of other methods. It covers the query's decoded
// parameters, or the fields of the header followed by the body; it covers neither method nor path nor host.
type GEO struct {
	KeyID  string
	Secret []byte
	// Algorithm is sha512 (the default), sha256 or sha1.
	Algorithm                string
	Username, Source, Target string
	Nonce                    string    // empty: a new UUID
	Expires                  time.Time // milliseconds count
	Base64                   bool      // the signature's encoding; otherwise hexadecimal
}

// Sign adds the signature to a request with this body and returns the text that was signed.
func (g *GEO) Sign(r *http.Request, body []byte) (signed string, _ error) {
	if g.KeyID == "" || len(g.Secret) == 0 {
		return "", fmt.Errorf("GEO-Auth needs a key, expected its ID and its secret")
	}
	for _, f := range []struct{ name, value string }{{"geo-key-id", g.KeyID}, {"geo-username", g.Username}, {"geo-source-system-name", g.Source}, {"geo-target-system-name", g.Target}, {"geo-nonce", g.Nonce}} {
		if strings.ContainsAny(f.value, ",&=\r\n") {
			return "", fmt.Errorf("%s is %q, expected no comma, ampersand, equals sign or line break", f.name, f.value)
		}
	}
	if g.Nonce == "" {
		g.Nonce = uuid()
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return g.signQuery(r)
	}
	if r.URL.RawQuery != "" {
		return "", fmt.Errorf("GEO-Auth does not cover the query of a %s, expected the parameters in the body", r.Method)
	}
	return g.signBody(r, body)
}

// signQuery signs the decoded parameters in the order of the URL.
func (g *GEO) signQuery(r *http.Request) (string, error) {
	var plain, encoded []string
	if r.URL.RawQuery != "" {
		for piece := range strings.SplitSeq(r.URL.RawQuery, "&") {
			name, value, err := decoded(piece)
			if err != nil {
				return "", err
			}
			plain = append(plain, name+"="+value)
			encoded = append(encoded, url.QueryEscape(name)+"="+url.QueryEscape(value))
		}
	}
	for _, f := range g.fields("geo-username", "geo-key-id", "geo-source-system-name", "geo-target-system-name", "geo-expires-by", "geo-nonce") {
		plain = append(plain, f.name+"="+f.value)
		encoded = append(encoded, f.name+"="+url.QueryEscape(f.value))
	}
	signed := strings.Join(plain, "&")
	signature, err := g.mac(signed)
	if err != nil {
		return "", err
	}
	r.URL.RawQuery = strings.Join(encoded, "&") + "&geo-signature=" + url.QueryEscape(signature)
	return signed, nil
}

// decoded reads one parameter. The signature covers decoded text, where some would be ambiguous.
func decoded(piece string) (name, value string, _ error) {
	rawName, rawValue, _ := strings.Cut(piece, "=")
	name, err1 := url.QueryUnescape(rawName)
	value, err2 := url.QueryUnescape(rawValue)
	switch {
	case err1 != nil || err2 != nil:
		return "", "", fmt.Errorf("%q in the query is not percent-encoded", piece)
	case strings.ContainsAny(name, "&=") || strings.Contains(value, "&"):
		return "", "", fmt.Errorf("%q in the query has an encoded & or =, which GEO-Auth cannot sign", piece)
	case strings.HasPrefix(strings.ToLower(name), "geo-"):
		return "", "", fmt.Errorf("%q in the query, expected no parameter of GEO-Auth", name)
	}
	return name, value, nil
}

// signBody signs the fields of the header, followed by the body.
func (g *GEO) signBody(r *http.Request, body []byte) (string, error) {
	var parts []string
	for _, f := range g.fields("geo-username", "geo-key-id", "geo-expires-by", "geo-source-system-name", "geo-target-system-name", "geo-nonce") {
		parts = append(parts, f.name+"="+f.value)
	}
	header := strings.Join(parts, ",")
	signed := header + string(body)
	signature, err := g.mac(signed)
	if err != nil {
		return "", err
	}
	r.Header.Set("GEO-Auth", header+",geo-signature="+signature)
	return signed, nil
}

type field struct{ name, value string }

// fields returns those that have a value, in this order.
func (g *GEO) fields(order ...string) (out []field) {
	values := map[string]string{"geo-username": g.Username, "geo-key-id": g.KeyID, "geo-source-system-name": g.Source, "geo-target-system-name": g.Target,
		"geo-expires-by": strconv.FormatInt(g.Expires.UnixMilli(), 10), "geo-nonce": g.Nonce}
	for _, name := range order {
		if values[name] != "" {
			out = append(out, field{name, values[name]})
		}
	}
	return out
}

func (g *GEO) mac(text string) (string, error) {
	var h func() hash.Hash
	switch g.Algorithm {
	case "", "sha512":
		h = sha512.New
	case "sha256":
		h = sha256.New
	case "sha1":
		h = sha1.New
	default:
		return "", fmt.Errorf("algorithm is %q, expected sha512, sha256 or sha1", g.Algorithm)
	}
	m := hmac.New(h, g.Secret)
	m.Write([]byte(text))
	if g.Base64 {
		return base64.StdEncoding.EncodeToString(m.Sum(nil)), nil
	}
	return hex.EncodeToString(m.Sum(nil)), nil
}

// uuid returns a random UUID (RFC 9562, version 4).
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
