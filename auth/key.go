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

// keyPrefix begins every API key, so that programs that look for leaked secrets know one.
const keyPrefix = "qhk_"

// KeyLookup finds keys by id. Safe for concurrent use.
type KeyLookup interface {
	APIKey(id string) (hub.APIKey, bool)
}

// Keys accepts API keys: in the Authorization header as a bearer token, or in X-API-Key.
type Keys struct {
	lookup KeyLookup
	now    func() time.Time
}

// KeySetting is an API key that stands in the settings, for the first operator, who makes the others: the file holds
// its hash, and only its holder the key.
type KeySetting struct {
	ID     string   `yaml:"id"`
	Name   string   `yaml:"name"`
	SHA256 string   `yaml:"sha256"` // of the key's secret part, in hex
	Scopes []string `yaml:"scopes,omitempty"`
	Roles  []string `yaml:"roles,omitempty"`

	hash []byte
}

func (k *KeySetting) check() (err error) {
	if len(k.ID) != 12 || !validName(k.ID) || k.Name == "" {
		return fmt.Errorf("id %q, name %q: expected what quorumhub auth new-key prints", k.ID, k.Name)
	}
	if k.hash, err = hex.DecodeString(k.SHA256); err != nil || len(k.hash) != sha256.Size {
		return fmt.Errorf("%s: sha256: expected 64 hexadecimal digits, as quorumhub auth new-key prints them", k.Name)
	}
	return nil
}

// NewKeyLookup finds keys in the settings, then in the state.
func NewKeyLookup(settings []KeySetting, state hub.StateReader) KeyLookup {
	return &keyLookup{settings, state}
}

type keyLookup struct {
	settings []KeySetting
	state    hub.StateReader
}

func (l *keyLookup) APIKey(id string) (k hub.APIKey, ok bool) {
	for i := range l.settings {
		if s := &l.settings[i]; s.ID == id {
			return hub.APIKey{ID: id, Name: s.Name, Hash: s.hash, Scopes: s.Scopes, Roles: s.Roles}, true
		}
	}
	l.state.View(func(st *hub.State) { k, ok = st.APIKey(id) })
	return k, ok
}

// NewKeys makes the authenticator.
func NewKeys(lookup KeyLookup, now func() time.Time) *Keys { return &Keys{lookup: lookup, now: now} }

// Challenge is that of bearer tokens.
func (k *Keys) Challenge() string { return bearerChallenge }

// GenerateAPIKey makes a key: the text its holder gets, once, and what the hub keeps of it.
func GenerateAPIKey() (text string, id string, hash []byte, err error) {
	raw := make([]byte, 6+32)
	if _, err := rand.Read(raw); err != nil {
		return "", "", nil, fmt.Errorf("make an API key: %w", err)
	}
	id = hex.EncodeToString(raw[:6])
	secret := base64.RawURLEncoding.EncodeToString(raw[6:])
	sum := sha256.Sum256([]byte(secret))
	return keyPrefix + id + "_" + secret, id, sum[:], nil
}

// Authenticate checks the key. A key that does not exist takes as long as one whose secret is wrong.
func (k *Keys) Authenticate(_ context.Context, r *Request) (*Principal, error) {
	text, err := presentedKey(r.HTTP)
	if err != nil {
		return nil, err
	}
	id, secret, ok := strings.Cut(strings.TrimPrefix(text, keyPrefix), "_")
	if !ok || !strings.HasPrefix(text, keyPrefix) || len(text) > 128 {
		return nil, refuse(MethodKey, "not of the form %s<id>_<secret>", keyPrefix)
	}
	key, known := k.lookup.APIKey(id)
	sum := sha256.Sum256([]byte(secret))
	want := key.Hash
	if len(want) != len(sum) {
		want = make([]byte, len(sum)) // the hash of nothing that can be found
		known = false
	}
	same := subtle.ConstantTimeCompare(sum[:], want) == 1
	switch {
	case !known:
		return nil, refuse(MethodKey, "key %q does not exist", clip(id))
	case !same:
		return nil, refuse(MethodKey, "key %s (%s): its secret is wrong", id, key.Name)
	case !key.ExpiresAt.IsZero() && !k.now().Before(key.ExpiresAt):
		return nil, refuse(MethodKey, "key %s (%s) expired at %s", id, key.Name, key.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return &Principal{Method: MethodKey, Subject: key.Name, User: key.Name, Scopes: key.Scopes, Roles: key.Roles}, nil
}

func presentedKey(r *http.Request) (string, error) {
	given := r.Header["X-Api-Key"]
	if len(given) > 1 {
		return "", refuse(MethodKey, "more than one X-API-Key header")
	}
	if len(given) == 1 {
		if r.Header["Authorization"] != nil {
			return "", refuse(MethodKey, "both an X-API-Key and an Authorization header")
		}
		return given[0], nil
	}
	if auth := r.Header["Authorization"]; len(auth) == 1 {
		scheme, value, _ := strings.Cut(auth[0], " ")
		if value = strings.TrimSpace(value); strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(value, keyPrefix) {
			return value, nil
		}
	}
	return "", ErrNotMine
}
