package auth_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/auth"
)

// memory implements Nonces in one process.
type memory struct {
	mu   sync.Mutex
	used map[[32]byte]time.Time
	err  error
}

func (m *memory) Claim(_ context.Context, _ string, nonce [32]byte, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false, m.err
	}
	if m.used == nil {
		m.used = map[[32]byte]time.Time{}
	}
	_, there := m.used[nonce]
	m.used[nonce] = until
	return !there, nil
}

const (
	geoUser   = "      usernames: [geo]\n"
	geoSecret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	geoNonce  = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
	geoBiz    = "transactionId=10&sequenceId=123&status=COMPLETED"
)

// geoTime is shortly before the reference requests expire.
var geoTime = time.UnixMilli(1368200000000).Add(-time.Minute)

// admitted authenticates a request and does what it asks.
func admitted(t *testing.T, a auth.Authenticator, r *auth.Request) (*auth.Principal, error) {
	t.Helper()
	p, err := a.Authenticate(t.Context(), r)
	if err == nil && r.Settle != nil {
		err = r.Settle(t.Context())
	}
	return p, err
}

func geo(t *testing.T, n auth.Nonces, change string) *auth.GEO {
	t.Helper()
	t.Setenv("GEO_SECRET", geoSecret)
	s, err := auth.ParseSettings([]byte("geo_auth:\n  keys:\n    - id: GEOSystem\n      secret_env: GEO_SECRET\n" + change))
	if err != nil {
		t.Fatal(err)
	}
	return auth.NewGEO(*s.GEOAuth, n, func() time.Time { return geoTime })
}

func request(method, target, body string, headers ...string) *auth.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return &auth.Request{HTTP: r, Host: r.Host, Scheme: "http", Body: func() ([]byte, error) { return []byte(body), nil }}
}

func geoSign(text string) string {
	m := hmac.New(sha512.New, []byte(geoSecret))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// Texts, secret and signatures from users of the scheme.
func TestGEOReferenceVectors(t *testing.T) {
	query := geoBiz + "&geo-username=geo&geo-key-id=GEOSystem&geo-source-system-name=INT&geo-target-system-name=HRMS&geo-expires-by=1368200000000&geo-nonce=" + geoNonce
	const getSignature = "wh6qzN8xbkKuVda1qVvY9W8C/R12IEjCibULassFZmOs71nU22qSXKnyDik5ZEFGPn15Dm+Kdg8yq41bjDDulQ=="
	header := "geo-username=geo,geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-source-system-name=INT,geo-target-system-name=HRMS,geo-nonce=" + geoNonce
	const postSignature = "ZNzDx9n8Dt1MLGhILgbJwV20M8TcqFNEOBXEATZcw50jz7xKX8VJFCMU//TTewKh+0yfYNE/NWkgyfMFoSdN6g=="
	raw, err := base64.StdEncoding.DecodeString(getSignature)
	if err != nil {
		t.Fatal(err)
	}

	for name, r := range map[string]*auth.Request{
		"GET, base64":             request("GET", "/x?"+query+"&geo-signature="+url.QueryEscape(getSignature), ""),
		"GET, plus not encoded":   request("GET", "/x?"+query+"&geo-signature="+strings.ReplaceAll(getSignature, "=", "%3D"), ""),
		"GET, base64url":          request("GET", "/x?"+query+"&geo-signature="+base64.RawURLEncoding.EncodeToString(raw), ""),
		"GET, hex":                request("GET", "/x?"+query+"&geo-signature="+hex.EncodeToString(raw), ""),
		"GET, encoded as a whole": request("GET", "/x?"+url.QueryEscape(query+"&geo-signature="+getSignature), ""),
		"POST":                    request("POST", "/x", geoBiz, "GEO-Auth", header+",geo-signature="+postSignature),
		"POST, Authorization":     request("POST", "/x", geoBiz, "Authorization", "GEO-Auth "+header+",geo-signature="+postSignature),
	} {
		p, err := geo(t, &memory{}, geoUser+"      source_system: INT\n").Authenticate(t.Context(), r)
		if err != nil || p.String() != "geo-auth:GEOSystem" || p.User != "geo" || p.Client != "INT" || p.ID != "signed:geo-auth/GEOSystem/geo" {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestGEORefusals(t *testing.T) {
	header := "geo-username=geo,geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-nonce=" + geoNonce
	signed := func(head, body string) *auth.Request {
		return request("POST", "/x", body, "GEO-Auth", head+",geo-signature="+geoSign(head+body))
	}
	get := func(query string) *auth.Request {
		plain, err := url.QueryUnescape(query)
		if err != nil {
			t.Fatal(err)
		}
		return request("GET", "/x?"+query+"&geo-signature="+geoSign(plain), "")
	}
	replace := func(old, with string) string { return strings.Replace(header, old, with, 1) }
	if _, err := geo(t, &memory{}, geoUser).Authenticate(t.Context(), signed(header, geoBiz)); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		r    *auth.Request
		want string
	}{
		"another body":             {request("POST", "/x", geoBiz+"1", "GEO-Auth", header+",geo-signature="+geoSign(header+geoBiz)), "invalid signature"},
		"boundary moved left":      {request("POST", "/x", "1"+geoBiz, "GEO-Auth", header[:len(header)-1]+",geo-signature="+geoSign(header+geoBiz)), "UUID"},
		"boundary moved right":     {request("POST", "/x", geoBiz[1:], "GEO-Auth", header+"t,geo-signature="+geoSign(header+geoBiz)), "UUID"},
		"nonce is not last":        {signed("geo-nonce="+geoNonce+",geo-key-id=GEOSystem,geo-expires-by=1368200000000", geoBiz), "the last field"},
		"space before signature":   {signed(header+" ", geoBiz), "space"},
		"nonce not a UUID":         {signed(replace(geoNonce, "1"), geoBiz), "UUID"},
		"unknown key":              {signed(replace("GEOSystem", "other"), geoBiz), "not in the settings"},
		"expired":                  {signed(replace("1368200000000", "1368199930000"), geoBiz), "expired"},
		"valid for too long":       {signed(replace("1368200000000", "1368300000000"), geoBiz), "ahead"},
		"seconds for milliseconds": {signed(replace("1368200000000", "1368200000"), geoBiz), "expired"},
		"textual time":             {signed(replace("1368200000000", "tomorrow"), geoBiz), "milliseconds"},
		"negative time":            {signed(replace("1368200000000", "-1"), geoBiz), "milliseconds"},
		"duplicate field":          {signed("geo-username=root,"+header, geoBiz), "duplicate"},
		"unknown field":            {signed("geo-role=root,"+header, geoBiz), "unknown"},
		"own algorithm":            {signed("geo-signature-algorithm=md5,"+header, geoBiz), "unknown"},
		"no name=value":            {signed("hello,"+header, geoBiz), "name=value"},
		"no key":                   {signed("geo-expires-by=1368200000000,geo-nonce="+geoNonce, geoBiz), "geo-key-id is missing"},
		"no signature":             {request("POST", "/x", geoBiz, "GEO-Auth", header), "does not end"},
		"empty signature":          {request("POST", "/x", geoBiz, "GEO-Auth", header+",geo-signature="), "missing"},
		"SHA-256 for SHA-512":      {request("POST", "/x", geoBiz, "GEO-Auth", header+",geo-signature="+geoSign(header + geoBiz)[:64]), "invalid signature"},
		"query on a POST":          {request("POST", "/x?a=1", geoBiz, "GEO-Auth", header+",geo-signature="+geoSign(header+geoBiz)), "does not cover the query"},
		"two headers":              {request("POST", "/x", geoBiz, "GEO-Auth", header, "GEO-Auth", header), "more than one"},
		"query of a POST signed":   {request("POST", "/x?a=1&geo-signature=x", ""), "method"},
		"signature not last":       {request("GET", "/x?geo-signature=x&a=1", ""), "last parameter"},
		"hidden separator":         {get("note=x%26status%3DDONE&geo-key-id=GEOSystem&geo-expires-by=1368200000000&geo-nonce=" + geoNonce), "encoded &"},
		"hidden equals":            {get("a%3Db=1&geo-key-id=GEOSystem&geo-expires-by=1368200000000&geo-nonce=" + geoNonce), "encoded &"},
		"bad escape":               {request("GET", "/x", ""), ""},
		"too long":                 {request("GET", "/x?a="+strings.Repeat("x", 20000)+"&geo-signature=x", ""), "bytes"},
	} {
		if name == "bad escape" {
			c.r.HTTP.URL.RawQuery, c.want = "a=%zz&geo-signature=x", "encoded"
		}
		_, err := geo(t, &memory{}, geoUser).Authenticate(t.Context(), c.r)
		var refusal *auth.RefusalError
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, c.want) {
			t.Errorf("%s: %v; want a refusal with %q", name, err, c.want)
		}
	}

	limited := "      usernames: [alice]\n      source_system: INT\n"
	if _, err := geo(t, &memory{}, limited).Authenticate(t.Context(), signed("geo-source-system-name=INT,"+header, geoBiz)); err == nil {
		t.Error("a key spoke for a user it is not for")
	}
	if _, err := geo(t, &memory{}, limited).Authenticate(t.Context(), signed(replace("geo-username=geo", "geo-username=alice"), geoBiz)); err == nil {
		t.Error("a key was accepted from a system it is not for")
	}
	// What the key's holder writes names nobody whom the settings do not.
	if p, err := geo(t, &memory{}, "").Authenticate(t.Context(), signed(header, geoBiz)); err == nil {
		t.Errorf("a key without usernames spoke for %s", p.User)
	}
	nobody := "geo-source-system-name=HRMS," + strings.Replace(header, "geo-username=geo,", "", 1)
	if p, err := geo(t, &memory{}, "").Authenticate(t.Context(), signed(nobody, geoBiz)); err != nil || p.User != "" || p.Client != "" || p.ID != "signed:geo-auth/GEOSystem" {
		t.Errorf("a request that names no user: %+v, %v", p, err)
	}
}

func TestReplay(t *testing.T) {
	header := "geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-nonce=" + geoNonce
	good := func() *auth.Request {
		return request("POST", "/x", geoBiz, "GEO-Auth", header+",geo-signature="+geoSign(header+geoBiz))
	}
	n := &memory{}
	g := geo(t, n, "")
	forged := request("POST", "/x", "forged", "GEO-Auth", header+",geo-signature="+geoSign(header+geoBiz))
	if _, err := g.Authenticate(t.Context(), forged); err == nil {
		t.Fatal("a forged body was accepted")
	}
	if len(n.used) != 0 {
		t.Fatal("a forged request claimed the nonce of a genuine one")
	}
	var accepted, refused int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := admitted(t, g, good())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				accepted++
			} else {
				refused++
			}
		})
	}
	wg.Wait()
	if accepted != 1 || refused != 19 {
		t.Errorf("%d of 20 copies were accepted, want 1", accepted)
	}
	n.err = errors.New("no leader")
	if _, err := admitted(t, g, good()); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("while nonces cannot be claimed: %v, want ErrUnavailable", err)
	}
	for _, until := range n.used {
		if want := time.UnixMilli(1368200000000).Add(5 * time.Second); !until.Equal(want) {
			t.Errorf("the nonce is kept until %s, want %s", until, want)
		}
	}
}

// FuzzGEO looks for an accepted request whose text was not signed.
func FuzzGEO(f *testing.F) {
	header := "geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-nonce=" + geoNonce
	f.Add("POST", "", header+",geo-signature="+geoSign(header+geoBiz), []byte(geoBiz))
	f.Add("GET", geoBiz+"&geo-key-id=GEOSystem&geo-expires-by=1368200000000&geo-nonce="+geoNonce+"&geo-signature=00", "", []byte(nil))
	f.Setenv("GEO_SECRET", geoSecret)
	s, err := auth.ParseSettings([]byte("geo_auth: {keys: [{id: GEOSystem, secret_env: GEO_SECRET}]}"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, query, head string, body []byte) {
		r := &http.Request{Method: method, URL: &url.URL{Path: "/x", RawQuery: query}, Header: http.Header{}}
		if head != "" {
			r.Header["Geo-Auth"] = []string{head}
		}
		g := auth.NewGEO(*s.GEOAuth, &memory{}, func() time.Time { return geoTime })
		_, err := g.Authenticate(t.Context(), &auth.Request{HTTP: r, Body: func() ([]byte, error) { return body, nil }})
		if err == nil && (head[:strings.LastIndex(head, ",geo-signature=")] != header || !bytes.Equal(body, []byte(geoBiz))) {
			t.Errorf("accepted: %s ?%s %q %q", method, query, head, body)
		}
	})
}
