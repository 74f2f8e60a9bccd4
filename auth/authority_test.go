package auth_test

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// authority is an OAuth2 issuer on this machine that publishes whatever keys a test sets.
type authority struct {
	t        *testing.T
	server   *httptest.Server
	fetches  atomic.Int32
	discover atomic.Int32

	mu   sync.Mutex
	keys []signingKey
	raw  string // if set, served instead of the keys
	down bool
}

type signingKey struct {
	kid, alg, use string
	private       crypto.Signer
}

func newAuthority(t *testing.T, keys ...signingKey) *authority {
	t.Helper()
	a := &authority{t: t, keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		a.discover.Add(1)
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, a.server.URL, a.server.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		a.fetches.Add(1)
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if a.raw != "" {
			fmt.Fprint(w, a.raw)
			return
		}
		set := jwk.NewSet()
		for _, k := range a.keys {
			key, err := jwk.Import(k.private.Public())
			if err != nil {
				t.Error(err)
				return
			}
			for name, value := range map[string]string{"kid": k.kid, "alg": k.alg, "use": k.use} {
				if value != "" {
					if err := key.Set(name, value); err != nil {
						t.Error(err)
					}
				}
			}
			if err := set.AddKey(key); err != nil {
				t.Error(err)
			}
		}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			t.Error(err)
		}
	})
	a.server = httptest.NewServer(mux)
	t.Cleanup(a.server.Close)
	return a
}

func (a *authority) setKeys(keys ...signingKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = keys
}

func (a *authority) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}
