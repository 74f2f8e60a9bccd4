package web

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// TokenKeys are the private keys (P-256) of tokens for the services behind the gateway, the same on all nodes. Safe for concurrent use.
type TokenKeys interface {
	// TokenKeys returns the keys, the one that signs first.
	TokenKeys() []*ecdsa.PrivateKey
}

const (
	// tokenKeysPath is where services find the keys of their tokens, whatever the prefix of the registry.
	tokenKeysPath = "/gateway/jwks.json" //nolint:gosec // a path, not a secret
	// maxAccountsBytes bounds a list of accounts in a topic.
	maxAccountsBytes = 16 << 20
)

// tokenKeys implements token.Keys.
type tokenKeys struct{ *Server }

// TokenKeys implements token.Keys.
func (k tokenKeys) TokenKeys() []*ecdsa.PrivateKey { return k.Services.TokenKeys.TokenKeys() }

// FormerTokenKeys implements token.Keys.
func (k tokenKeys) FormerTokenKeys() (out [][]byte) {
	now := k.Clock.Now()
	k.State.View(func(s *hub.State) {
		for _, f := range s.FormerTokenKeys() {
			if f.Until.After(now) {
				out = append(out, f.Public)
			}
		}
	})
	return out
}

// getTokenKeys serves the public keys of tokens.
func (s *Server) getTokenKeys(w http.ResponseWriter, r *http.Request) {
	var set []byte
	ok, err := false, error(nil)
	if s.gateway != nil {
		set, ok, err = s.gateway.TokenKeys()
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
		return
	case !ok:
		s.fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Detail: "the gateway of this hub mints no tokens"})
		return
	}
	w.Header()["Content-Type"] = []string{"application/jwk-set+json"}
	w.Header()["Cache-Control"] = []string{"public, max-age=300"}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(set))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(set)
	}
}

// newestOf reads the newest message of a topic, unless that is the known one. The mark is its ID.
func (s *Server) newestOf(_ context.Context, name, known string) (mark string, content []byte, err error) {
	var t hub.Topic
	var ok bool
	s.State.View(func(st *hub.State) { t, ok = st.TopicByName(name) })
	if !ok || t.Head == 0 {
		return "", nil, nil
	}
	msgs, err := s.Messages.Read(t.ID, t.Head, 1, 1)
	switch {
	case err != nil:
		return "", nil, err
	case len(msgs) == 0:
		return "", nil, hub.ErrTrimmed
	}
	m := &msgs[0]
	if mark = m.ID(); mark == known {
		return mark, nil, nil
	}
	if m.Size() > maxAccountsBytes {
		return "", nil, fmt.Errorf("message %s has %d bytes; expected at most %d", mark, m.Size(), maxAccountsBytes)
	}
	content, err = io.ReadAll(hub.NewBodyReader(s.Parts, m))
	return mark, content, err
}
