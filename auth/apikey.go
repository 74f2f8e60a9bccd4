package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"quorumhub/hub"
)

// apiKeyPrefix begins every API key, so that secret scanners recognise one.
const apiKeyPrefix = "qhk_"

// APIKeyLookup finds API keys by ID. Safe for concurrent use.
type APIKeyLookup interface {
	APIKey(id string) (hub.APIKey, bool)
}

// APIKeys authenticates API keys, sent as a bearer token or in X-API-Key.
type APIKeys struct {
	lookup APIKeyLookup
	now    func() time.Time
}

// APIKeySetting is an API key in auth.file, for the first operator, who creates the others. The file contains only its hash.
type APIKeySetting struct {
	ID     string   `yaml:"id"`
	Name   string   `yaml:"name"`
	SHA256 string   `yaml:"sha256"` // of the secret part, in hex
	Scopes []string `yaml:"scopes,omitempty"`
	Roles  []string `yaml:"roles,omitempty"`

	hash []byte
}

func (k *APIKeySetting) check() (err error) {
	if len(k.ID) != 12 || !validName(k.ID) || k.Name == "" {
		return fmt.Errorf("id %q, name %q: expected the output of quorumhub auth new-key", k.ID, k.Name)
	}
	if k.hash, err = hex.DecodeString(k.SHA256); err != nil || len(k.hash) != sha256.Size {
		return fmt.Errorf("%s: sha256: expected 64 hexadecimal digits, the output of quorumhub auth new-key", k.Name)
	}
	return nil
}

// NewAPIKeyLookup looks for keys in the settings, then in the state.
func NewAPIKeyLookup(settings []APIKeySetting, state hub.StateReader) APIKeyLookup {
	return &apiKeyLookup{settings, state}
}

type apiKeyLookup struct {
	settings []APIKeySetting
	state    hub.StateReader
}

func (l *apiKeyLookup) APIKey(id string) (k hub.APIKey, ok bool) {
	for i := range l.settings {
		if s := &l.settings[i]; s.ID == id {
			return hub.APIKey{ID: id, Name: s.Name, Hash: s.hash, Scopes: s.Scopes, Roles: s.Roles}, true
		}
	}
	l.state.View(func(st *hub.State) { k, ok = st.APIKey(id) })
	return k, ok
}

// NewAPIKeys makes an Authenticator for API keys. now is the clock.
func NewAPIKeys(lookup APIKeyLookup, now func() time.Time) *APIKeys {
	return &APIKeys{lookup: lookup, now: now}
}

// Challenge is the one for bearer tokens.
func (k *APIKeys) Challenge() string { return bearerChallenge }

// GenerateAPIKey makes a key. The holder gets text, once; the hub stores the ID and the hash.
func GenerateAPIKey() (text string, id string, hash []byte, err error) {
	raw := make([]byte, 6+32)
	if _, err := rand.Read(raw); err != nil {
		return "", "", nil, fmt.Errorf("generate an API key: %w", err)
	}
	id = hex.EncodeToString(raw[:6])
	secret := base64.RawURLEncoding.EncodeToString(raw[6:])
	sum := sha256.Sum256([]byte(secret))
	return apiKeyPrefix + id + "_" + secret, id, sum[:], nil
}

// Authenticate checks the key. An unknown key takes as long as a wrong secret.
func (k *APIKeys) Authenticate(_ context.Context, r *Request) (*Principal, error) {
	text, err := presentedKey(r.HTTP)
	if err != nil {
		return nil, err
	}
	id, secret, ok := strings.Cut(strings.TrimPrefix(text, apiKeyPrefix), "_")
	if !ok || !strings.HasPrefix(text, apiKeyPrefix) || len(text) > 128 {
		return nil, refuse(MethodAPIKey, "not of the form %s<id>_<secret>", apiKeyPrefix)
	}
	return k.check(id, secret)
}

// check returns who has a key now.
func (k *APIKeys) check(id, secret string) (*Principal, error) {
	key, known := k.lookup.APIKey(id)
	sum := sha256.Sum256([]byte(secret))
	want := key.Hash
	if len(want) != len(sum) {
		want = make([]byte, len(sum)) // no text is known to have this hash
		known = false
	}
	same := subtle.ConstantTimeCompare(sum[:], want) == 1
	switch {
	case !known:
		return nil, refuse(MethodAPIKey, "key %q does not exist", clip(id))
	case !same:
		return nil, refuse(MethodAPIKey, "key %s (%s): its secret is wrong", id, key.Name)
	case !key.ExpiresAt.IsZero() && !k.now().Before(key.ExpiresAt):
		return nil, refuse(MethodAPIKey, "key %s (%s) expired at %s", id, key.Name, key.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return &Principal{Method: MethodAPIKey, ID: identity("key", id), Subject: key.Name, User: key.Name, Scopes: key.Scopes, Roles: key.Roles,
		Until: key.ExpiresAt, again: func(context.Context) (*Principal, error) { return k.check(id, secret) }}, nil
}

func presentedKey(r *http.Request) (string, error) {
	given := r.Header["X-Api-Key"]
	if len(given) > 1 {
		return "", refuse(MethodAPIKey, "more than one X-API-Key header")
	}
	if len(given) == 1 {
		if r.Header["Authorization"] != nil {
			return "", refuse(MethodAPIKey, "both an X-API-Key and an Authorization header")
		}
		return given[0], nil
	}
	if auth := r.Header["Authorization"]; len(auth) == 1 {
		scheme, value, _ := strings.Cut(auth[0], " ")
		if value = strings.TrimSpace(value); strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(value, apiKeyPrefix) {
			return value, nil
		}
	}
	return "", ErrNotMine
}
