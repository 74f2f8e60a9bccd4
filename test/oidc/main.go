// Command oidc is a real OpenID provider on loopback for tests: it issues access tokens to the clients it is
// given. It is a separate module so that the hub does not depend on its dependencies.
//
//	oidc -clients '{"print":{"secret":"s","audience":"account","scopes":["x"],"roles":["R"]}}'
//
// It prints its issuer on standard output once it listens, and exits when standard input is closed. The tests
// in test/compat build and run it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

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

// clients is the provider's storage with the configured clients in front.
type clients struct {
	*storage.Storage
	known map[string]client
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
	flag.Parse()
	store := &clients{}
	if err := json.Unmarshal([]byte(*text), &store.known); err != nil {
		return fmt.Errorf("-clients: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "http://" + ln.Addr().String()
	store.Storage = storage.NewStorage(storage.NewUserStore(issuer + "/"))
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	server := &http.Server{Handler: exampleop.SetupServer(issuer, store, log, false), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	fmt.Println(issuer)
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
