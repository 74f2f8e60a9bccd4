// Command oidc is a real OpenID provider on loopback for tests: it issues access tokens to the clients it is
// given, and lets people log in. It is a separate module so that the hub does not depend on its dependencies.
//
//	oidc -clients '{"print":{"secret":"s","audience":"account","scopes":["x"],"roles":["R"]}}'
//	oidc -clients '{"hub":{"secret":"s","redirects":["http://127.0.0.1:8080/login/callback/corp"]}}'
//
// People log in as test-user2 with the password verysecure. It prints its issuer on standard output once it
// listens, and exits when standard input is closed. A line "rotate" there replaces its signing key, which it
// confirms with a line. The tests in test/compat and test/identity build and run it.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// client is a service and its credentials.
type client struct {
	Secret   string   `json:"secret"`
	Audience string   `json:"audience"`
	Scopes   []string `json:"scopes"`
	Roles    []string `json:"roles"`
	// Redirects are where people come back to after they have logged in, and Logouts after they have logged out.
	Redirects []string `json:"redirects"`
	Logouts   []string `json:"logouts"`
}

// service turns the provider's web client into one that may only request its own tokens, as JWTs.
type service struct {
	*storage.Client
	id string
}

func (s service) GetID() string                     { return s.id }
func (service) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (service) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}
func (service) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}

// application is a client whose people log in.
type application struct {
	*storage.Client
	client client
}

func (a application) RedirectURIs() []string           { return a.client.Redirects }
func (a application) PostLogoutRedirectURIs() []string { return a.client.Logouts }

// clients is the provider's storage with the configured clients in front.
type clients struct {
	*storage.Storage
	known map[string]client

	mu  sync.Mutex
	key *signingKey
}

// signingKey is the provider's only key.
type signingKey struct {
	id  string
	key *ecdsa.PrivateKey
}

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k *signingKey) Key() any                                    { return k.key }

type publicKey struct{ *signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.key.Public() }

// rotate replaces the key.
func (c *clients) rotate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = &signingKey{rand.Text(), key}
	return nil
}

func (c *clients) SigningKey(context.Context) (op.SigningKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key, nil
}

func (*clients) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (c *clients) KeySet(context.Context) ([]op.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []op.Key{publicKey{c.key}}, nil
}

func (c *clients) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	known, ok := c.known[id]
	if !ok {
		return nil, errors.New("unknown client")
	}
	return application{storage.WebClient(id, known.Secret), known}, nil
}

func (c *clients) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if known, ok := c.known[id]; !ok || known.Secret != secret {
		return errors.New("unknown client or wrong secret")
	}
	return nil
}

func (c *clients) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	if known, ok := c.known[id]; !ok || known.Secret != secret {
		return nil, errors.New("unknown client or wrong secret")
	}
	return service{storage.WebClient(id, secret), id}, nil
}

func (c *clients) ClientCredentialsTokenRequest(_ context.Context, id string, wanted []string) (op.TokenRequest, error) {
	known := c.known[id]
	granted := slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return !slices.Contains(known.Scopes, s) })
	return &oidc.JWTTokenRequest{Subject: id, Audience: []string{known.Audience}, Scopes: granted}, nil
}

// GetPrivateClaimsFromRequest adds the claims that Keycloak adds: scopes, roles and the name of the service
// account.
func (c *clients) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	return map[string]any{
		"scope":              oidc.SpaceDelimitedArray(r.GetScopes()),
		"preferred_username": "service-account-" + r.GetSubject(),
		"realm_access":       map[string]any{"roles": c.known[r.GetSubject()].Roles},
	}, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "oidc:", err)
		os.Exit(1)
	}
}

func run() error {
	text := flag.String("clients", "{}", "the clients, as JSON")
	at := flag.String("listen", "127.0.0.1:0", "where to listen")
	flag.Parse()
	store := &clients{}
	if err := store.rotate(); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(*text), &store.known); err != nil {
		return fmt.Errorf("-clients: %w", err)
	}
	ln, err := net.Listen("tcp", *at)
	if err != nil {
		return err
	}
	issuer := "http://" + ln.Addr().String()
	store.Storage = storage.NewStorage(storage.NewUserStore(issuer + "/"))
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	server := &http.Server{Handler: exampleop.SetupServer(issuer, store, log, false), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if lines.Text() == "rotate" && store.rotate() == nil {
				fmt.Println("rotated")
			}
		}
		_ = server.Close()
	}()
	fmt.Println(issuer)
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
