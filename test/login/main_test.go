package login_test

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/argon2"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }

const password = "correct horse battery staple"

// rootKey is an API key of local's auth.file.
var rootKey, keyID, keyHash = newKey()

func newKey() (text, id string, hash []byte) {
	text, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		panic(err)
	}
	return text, id, hash
}

// hashOf makes the argon2id hash of a password, as quorumhub auth hash-password does.
func hashOf(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	const memory, times, threads = 8 << 10, 1, 1
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", memory, times, threads, b64(salt), b64(argon2.IDKey([]byte(password), salt, times, memory, threads, 32)))
}

// secretFile writes a secret for auth.file, and returns {file: …}.
func secretFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return "{file: " + path + "}"
}

// newTOTP returns the secret of one-time codes.
func newTOTP() string {
	raw := make([]byte, 20)
	_, _ = rand.Read(raw)
	return base32.StdEncoding.EncodeToString(raw)
}

func codeOf(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// authFile writes settings.
func authFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// local is an auth.file with one account, root, and pages that ask for it.
func local(t *testing.T, more string) string {
	t.Helper()
	return fmt.Sprintf(`
identity_providers:
  - {name: emergency, kind: local, label: Emergency account, enabled: true, accounts: [{name: root, password_hash: %q, roles: [admin]}]}
  - {name: paste, kind: key, label: API key}
api_keys: [{id: %q, name: root, sha256: '%x', roles: [admin]}]
sequences:
  staff: {steps: [{strategy: single, of: [emergency], retries: 2}]}
rules:
  - {name: admins, who: [{role: admin, issuer: emergency}], may: [admin.view]}
%s`, hashOf(password), keyID, keyHash, more)
}

// start starts a hub with an auth.file.
func start(t *testing.T, settings string, more hubtest.Settings) *hubtest.Node {
	t.Helper()
	addrs, err := hubtest.FreeLocalhost(2)
	if err != nil {
		t.Fatal(err)
	}
	return startAt(t, addrs[0], addrs[1], settings, more)
}

// startAt starts a hub that is reached as localhost, which browsers treat as a secure connection; applications have addresses, so that
// they are other hosts.
func startAt(t *testing.T, addr, clusterAddr, settings string, more hubtest.Settings) *hubtest.Node {
	t.Helper()
	n, err := hubtest.PrepareNode(hubtest.Options{Dir: t.TempDir(), Binary: hubtest.Binary(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n.Place("node-1", addr, clusterAddr)
	n.URL = "http://localhost:" + port
	n.Settings = n.Settings.With(hubtest.Settings{"http.public_url": n.URL, "auth.mode": "required", "auth.file": authFile(t, settings), "auth.egress.mode": "dev-loopback",
		"http.trusted_proxies": []string{"127.0.0.1/32"}}).With(more)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing the node: %v", err)
		}
	})
	n.ShowLogOnFailure(t)
	if err := n.Run(); err != nil {
		t.Fatal(err)
	}
	return n
}

// cluster is three nodes behind one address.
type cluster struct {
	nodes []*hubtest.Node
	url   string
	// next is the node that gets the next request; each goes to the one after.
	next atomic.Int64
	// served counts requests by path and node.
	log atomic.Pointer[func(node int, r *http.Request)]
}

// three starts a cluster whose requests go to one node after another.
func three(t *testing.T, settings func(url string) string, more ...hubtest.Settings) *cluster {
	t.Helper()
	c := &cluster{}
	addrs, err := hubtest.FreeAddrs(6)
	if err != nil {
		t.Fatal(err)
	}
	var targets []*url.URL
	for i := range 3 {
		targets = append(targets, &url.URL{Scheme: "http", Host: addrs[i]})
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(c.next.Add(1)-1) % 3
		if f := c.log.Load(); f != nil {
			(*f)(i, r)
		}
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(targets[i])
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		}}).ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c.url = strings.Replace(front.URL, "127.0.0.1", "localhost", 1)
	_, key, err := keyring.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "secrets.key")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var peers []string
	for i := range 3 {
		peers = append(peers, fmt.Sprintf("node-%d=%s", i+1, addrs[3+i]))
	}
	file := authFile(t, settings(c.url))
	failed := make(chan error, 3)
	for i := range 3 {
		n, err := hubtest.PrepareNode(hubtest.Options{Dir: t.TempDir(), Binary: hubtest.Binary(t), ReadyIn: 2 * hubtest.Patience})
		if err != nil {
			t.Fatal(err)
		}
		n.Place(fmt.Sprintf("node-%d", i+1), addrs[i], addrs[3+i])
		n.Settings = n.Settings.With(hubtest.Settings{"http.public_url": c.url, "cluster.peers": peers, "cluster.token": "ohmuayaiqu3sheiGh5oo", "secrets.key_file": keyFile,
			"auth.mode": "required", "auth.file": file, "auth.egress.mode": "dev-loopback", "http.trusted_proxies": []string{"127.0.0.1/32"}})
		for _, m := range more {
			n.Settings = n.Settings.With(m)
		}
		c.nodes = append(c.nodes, n)
		n.ShowLogOnFailure(t)
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Errorf("closing a node: %v", err)
			}
		})
		go func() { failed <- n.Run() }()
	}
	for range 3 {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	return c
}
