package web_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	httpsig "github.com/remitly-oss/httpsig-go"

	"quorumhub/hub"
	"quorumhub/web"
)

// An answer that is broken off gives back what its request held, and is counted.
func TestAbortedAnswersReleaseTheirBodies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	const secret = "a secret of thirty-two bytes or more"
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, panics := range map[string]any{"aborted": http.ErrAbortHandler, "broken": "a mistake"} {
		g := newGuarded(t, "signed_requests: {keys: [{id: k1, algorithm: hmac-sha256, secret_file: "+path+", scopes: [orders.write, orders.read]}]}",
			func(rules *hub.Policy, o *web.Options) {
				rules.MaxMessageBytes = 1 << 20
				o.Parts = breakingParts{panics}
			})
		sign := func(method, body string) *http.Request {
			r := httptest.NewRequest(method, "/topics/orders/eu", strings.NewReader(body))
			r.Host = "hub.example.net"
			r.Header.Set("Content-Type", "text/plain")
			if err := httpsig.Sign(r, httpsig.SigningProfile{Algorithm: httpsig.Algo_HMAC_SHA256, ExpiresDuration: time.Minute, Nonce: httpsig.NonceRandom32,
				Fields:   httpsig.Fields("@method", "@authority", "@path", "@query", "content-digest", "content-type"),
				Metadata: []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaExpires, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag}},
				httpsig.SigningKey{Secret: []byte(secret), MetaKeyID: "k1", MetaTag: "websub-hub"}); err != nil {
				t.Fatal(err)
			}
			return r
		}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, sign("POST", strings.Repeat("x", 300<<10)))
		want(t, w, 200)
		for range 3 {
			func() {
				defer func() {
					if v, _ := recover().(error); !errors.Is(v, http.ErrAbortHandler) {
						t.Errorf("%s: the handler ended with %v", name, v)
					}
				}()
				g.ServeHTTP(httptest.NewRecorder(), sign("GET", strings.Repeat("y", 1000)))
			}()
		}
		metrics := g.send("GET", "/metrics", "", "X-API-Key", g.root).Body.String()
		if !strings.Contains(metrics, "quorumhub_http_body_bytes 0\n") {
			t.Errorf("%s: bytes are held after the answer", name)
		}
		if counted := map[string]string{"aborted": `{code="200",route="topics"} 4`, "broken": `{code="500",route="topics"} 3`}[name]; !strings.Contains(metrics, counted) {
			t.Errorf("%s: the answers are not counted", name)
		}
	}
}

// breakingParts panics when a blob is read.
type breakingParts struct{ with any }

func (b breakingParts) ReadPart(uint64, int, []byte) (int, error) { panic(b.with) }
