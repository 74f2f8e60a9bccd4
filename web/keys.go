package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/hub"
)

// Keys manages the sealing keys; see keyring.Keeper. Errors of type *hub.Error are for the client.
type Keys interface {
	Status(ctx context.Context) *keyring.Status
	Rotate(ctx context.Context, to, by string) error
	Reencrypt(ctx context.Context, limit time.Duration) (keyring.Reencrypted, error)
	Drop(ctx context.Context, key, by string) ([]string, error)
}

const (
	// reencryptTime bounds the re-encryption of one request.
	reencryptTime = 2 * time.Second
	// oldKeys, in place of an ID, means all keys that are no longer needed.
	oldKeys = "old"
)

// keyRoutes are the routes under /v1/keys.
func (s *Server) keyRoutes() []*route {
	of := access{reads: auth.ActionKeys, changes: auth.ActionKeys}
	get, post, del := http.MethodGet, http.MethodPost, http.MethodDelete
	return []*route{
		{name: "keys", paths: []string{"/v1/keys"}, access: of, methods: map[string]http.HandlerFunc{get: s.getKeys}},
		{name: "key", paths: []string{"/v1/keys/:id"}, access: of, methods: map[string]http.HandlerFunc{del: s.dropKey}},
		{name: "rotate_keys", paths: []string{"/v1/keys/rotate"}, access: of, methods: map[string]http.HandlerFunc{post: s.rotateKeys}},
		{name: "reencrypt", paths: []string{"/v1/keys/reencrypt"}, access: of, methods: map[string]http.HandlerFunc{post: s.reencrypt}},
	}
}

var errNoKeys = hub.Errorf(hub.CodeConflict, "this hub does not seal secrets")

func (s *Server) getKeys(w http.ResponseWriter, r *http.Request) {
	if s.Keys == nil {
		s.fail(w, r, errNoKeys)
		return
	}
	writeJSON(w, http.StatusOK, s.Keys.Status(r.Context()))
}

// rotateKeys takes {} or {"to": "1a2b3c4d"}.
func (s *Server) rotateKeys(w http.ResponseWriter, r *http.Request) {
	var in struct {
		To string `json:"to"`
	}
	err := s.readJSON(w, r, maxJSONBytes, &in, `expected JSON such as {} or {"to": "1a2b3c4d"}`)
	if err == nil {
		err = errNoKeys
		if s.Keys != nil {
			err = s.Keys.Rotate(r.Context(), in.To, principalName(r))
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.getKeys(w, r)
}

func (s *Server) dropKey(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/keys/")
	if id == oldKeys {
		id = ""
	}
	err := error(errNoKeys)
	if s.Keys != nil {
		_, err = s.Keys.Drop(r.Context(), id, principalName(r))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.getKeys(w, r)
}

func (s *Server) reencrypt(w http.ResponseWriter, r *http.Request) {
	if s.Keys == nil {
		s.fail(w, r, errNoKeys)
		return
	}
	out, err := s.Keys.Reencrypt(r.Context(), reencryptTime)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}
