package auth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

// A guard decides by the settings that were put in force last, while requests go on.
func TestGuardIsReplacedUnderLoad(t *testing.T) {
	state := &stateOf{State: hub.NewState(), t: t}
	log := slog.New(slog.DiscardHandler)
	const id = "0123456789ab"
	granting := func(topic string) (*auth.Gate, *auth.RuleSet) {
		s, err := auth.ParseSettings(fmt.Appendf(nil, "api_keys: [{id: %q, name: n, sha256: %x, roles: [user]}]\n"+
			"rules: [{name: r, may: [publish], topics: [%s], who: [{role: user}]}]\n", id, sha256.Sum256([]byte("secret")), topic))
		if err != nil {
			t.Fatal(err)
		}
		return auth.NewGate(s, auth.NewAPIKeys(auth.NewAPIKeyLookup(s.APIKeys, state), time.Now)), auth.NewRuleSet(s, state, log)
	}
	gate, rules := granting("a")
	g := auth.NewGuard(gate, rules, auth.AuditAll, "node-1", log)
	may := func(topic string) bool {
		r := httptest.NewRequest(http.MethodPost, "/hub", nil)
		r.Header.Set("X-API-Key", "qhk_"+id+"_secret")
		p, err := g.Authenticate(t.Context(), &auth.Request{HTTP: r})
		if err != nil {
			t.Error(err)
			return false
		}
		return g.Allow(auth.WithCaller(t.Context(), auth.Caller{Principal: p}), auth.ActionPublish, topic) == nil
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				may("a")
				g.Quotas(t.Context(), "key/"+id)
				g.Challenges()
			}
		})
	}
	for i := range 100 {
		topic := []string{"b", "a"}[i%2]
		gate, rules := granting(topic)
		g.Replace(gate, rules, auth.AuditAll)
		if !may(topic) || may(topic+"x") {
			t.Fatalf("the settings with topic %s are not in force", topic)
		}
	}
	wg.Wait()
}

// writePair writes a certificate that signs itself, and its key.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: cert}, ".key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(dir+"/"+name+ext, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerTLSIsReloaded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		writePair(t, dir, name)
	}
	path := func(name string) string { return dir + "/" + name }
	s := &auth.ServerTLS{Cert: path("a.pem"), Key: path("a.key")}
	if _, err := s.Config(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		cert, ca string
		changed  bool
		says     string
	}{
		{"a", "", false, ""}, {"b", "", true, ""}, {"b", "", false, ""}, {"b", "a.pem", true, ""}, {"b", "a.pem", false, ""}, {"b", "b.pem", true, ""},
		{"none", "", false, "none.pem"}, {"b", "none.pem", false, "http.tls.client_ca"}, {"b", "b.pem", false, ""}, {"b", "", true, ""},
	} {
		ca := ""
		if step.ca != "" {
			ca = path(step.ca)
		}
		changed, err := s.Reload(path(step.cert+".pem"), path(step.cert+".key"), ca)
		if changed != step.changed || (err == nil) != (step.says == "") || err != nil && !strings.Contains(err.Error(), step.says) {
			t.Errorf("%+v: %t, %v", step, changed, err)
		}
		if got := s.Leaf().Subject.CommonName; got != "b" && step.cert != "a" {
			t.Errorf("%+v: the certificate of %s is in force", step, got)
		}
	}
	if err := os.Remove(path("b.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(path("b.pem"), path("b.key"), ""); err == nil {
		t.Error("a missing key is no error")
	}
}
