package secrecy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	httpsig "github.com/remitly-oss/httpsig-go"

	"quorumhub/auth"
	"quorumhub/test/hubtest"
	"quorumhub/test/secrecy"
)

// planted is a cluster of three nodes and every secret planted in it.
type planted struct {
	t       *testing.T
	secrets secrecy.Secrets
	nodes   []*hubtest.Node
	dir     string
	root    string // the operator's API key
	issuer  *httptest.Server
	signing *ecdsa.PrivateKey
}

// secret plants another secret and returns it. The text is random, so that it does not occur by chance.
func (p *planted) secret(name string) string {
	b := make([]byte, 24)
	_, _ = rand.Read(b)
	text := "Se/" + base64.StdEncoding.EncodeToString(b) + "+t&" // includes characters that encodings change
	p.secrets[name] = []byte(text)
	return text
}

func (p *planted) file(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func plant(t *testing.T) *planted {
	p := &planted{t: t, secrets: secrecy.Secrets{}, dir: t.TempDir()}
	var err error
	if p.signing, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.issuer = httptest.NewServer(http.HandlerFunc(p.serveIssuer))
	t.Cleanup(p.issuer.Close)
	root, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	p.root = root
	p.secrets["operator's API key"] = []byte(root[strings.LastIndexByte(root, '_')+1:])
	settings := p.file("auth.yaml", fmt.Sprintf(`issuers:
  - {name: idp, issuer: %q, audiences: [hub], typ: any, cookie: Authorization}
api_keys: [{id: %s, name: root, sha256: %s, roles: [operator]}]
signed_requests: {keys: [{id: k1, algorithm: hmac-sha256, secret_file: %q, scopes: [write]}]}
geo_auth: {keys: [{id: g1, secret_file: %q, scopes: [write]}]}
rules:
  - {name: operate, may: ["admin.*"], who: [{role: operator}]}
  - {name: all, may: ["*"], topics: ["**"], who: [{role: operator}]}
  - {name: write, may: [publish, topic.register], topics: ["**"], who: [{scope: write}, {issuer: idp}]}
`, p.issuer.URL, id, hex.EncodeToString(hash), p.file("rfc9421", p.secret("shared key of RFC 9421")), p.file("geo", p.secret("shared key of GEO-Auth"))))
	raw := p.key("sealing key")
	token := p.secret("cluster token")
	addrs, err := hubtest.FreeAddrs(6)
	if err != nil {
		t.Fatal(err)
	}
	var peers []string
	for i := range 3 {
		peers = append(peers, fmt.Sprintf("node-%d=%s", i+1, addrs[3+i]))
	}
	for i := range 3 {
		p.nodes = append(p.nodes, p.node(fmt.Sprint("node-", i+1), addrs[i], addrs[3+i], raw, hubtest.Settings{
			"cluster.peers": peers, "cluster.token": token, "http.alias_urls": []string{"http://" + addrs[0], "http://" + addrs[1], "http://" + addrs[2]},
			"auth.mode": "required", "auth.file": settings, "auth.egress.mode": "dev-loopback", "auth.audit": "all",
			"log.level": "debug", "storage.log_bytes": "64KiB", "storage.flush_interval": "20ms", "hub.verification.attempts": 1, "hub.verification.timeout": "500ms",
			"delivery.retry.max_attempts": 2, "hub.subscriber_headers": true, "delivery.timeout": "1s",
		}))
	}
	started := make(chan error, 3)
	for _, n := range p.nodes {
		go func() { started <- n.Run() }()
	}
	for range p.nodes {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// key plants a sealing key and returns it as a line of a key file.
func (p *planted) key(name string) string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	p.secrets[name] = raw
	return base64.StdEncoding.EncodeToString(raw) + "\n"
}

func (p *planted) node(id, httpAddr, clusterAddr, key string, settings hubtest.Settings) *hubtest.Node {
	p.t.Helper()
	n, err := hubtest.PrepareNode(hubtest.Options{Dir: filepath.Join(p.dir, id), Settings: settings, Binary: hubtest.Binary(p.t)})
	if err != nil {
		p.t.Fatal(err)
	}
	n.Place(id, httpAddr, clusterAddr)
	if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.DataDir, "secrets.key"), []byte(key), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = n.Close() })
	n.ShowLogOnFailure(p.t)
	return n
}

func (p *planted) serveIssuer(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "openid-configuration") {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.issuer.URL, p.issuer.URL+"/keys")
		return
	}
	public, err := p.signing.PublicKey.Bytes()
	if err != nil {
		return
	}
	b64 := base64.RawURLEncoding.EncodeToString
	fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"e","alg":"ES256","use":"sig","x":%q,"y":%q}]}`, b64(public[1:33]), b64(public[33:]))
}

// token plants an access token; the secret part is its signature.
func (p *planted) token(name string, lifetime time.Duration) string {
	p.t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	now := time.Now()
	claims, err := json.Marshal(map[string]any{"iss": p.issuer.URL, "aud": "hub", "sub": "s", "jti": name, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(lifetime).Unix()})
	if err != nil {
		p.t.Fatal(err)
	}
	text := b64([]byte(`{"alg":"ES256","kid":"e","typ":"at+jwt"}`)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.signing, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	p.secrets[name] = []byte(b64(signature))
	return text + "." + b64(signature)
}

// signed sends a publish signed according to RFC 9421 and returns the status.
func (p *planted) signed(n *hubtest.Node, key []byte, body string) int {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, n.URL+hubtest.PublishTarget(n.TopicURL("signed")), strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "text/plain")
	err = httpsig.Sign(r, httpsig.SigningProfile{Algorithm: httpsig.Algo_HMAC_SHA256, ExpiresDuration: time.Minute, Nonce: httpsig.NonceRandom32,
		Fields:   httpsig.Fields("@method", "@authority", "@path", "@query", "content-digest", "content-type"),
		Metadata: []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaExpires, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag}},
		httpsig.SigningKey{Secret: key, MetaKeyID: "k1", MetaTag: "websub-hub"})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.send(r)
}

// geo sends a GET signed with GEO-Auth and returns the status.
func (p *planted) geo(n *hubtest.Node, key []byte) int {
	p.t.Helper()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	text := fmt.Sprintf("geo-key-id=g1&geo-expires-by=%d&geo-nonce=%x-%x-%x-%x-%x", time.Now().Add(time.Minute).UnixMilli(), nonce[:4], nonce[4:6], nonce[6:8], nonce[8:10], nonce[10:])
	mac := hmac.New(sha512.New, key)
	mac.Write([]byte(text))
	r, err := http.NewRequest(http.MethodGet, n.URL+"/v1/auth/whoami?"+text+"&geo-signature="+hex.EncodeToString(mac.Sum(nil)), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.send(r)
}

func (p *planted) send(r *http.Request) int {
	p.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	p.search("answer to "+r.Method+" "+r.URL.Path, b.Bytes())
	return resp.StatusCode
}

// search reports every secret in content.
func (p *planted) search(where string, content []byte) {
	p.t.Helper()
	for _, f := range p.secrets.Search(content) {
		p.t.Errorf("%s shows %s", where, f)
	}
}
