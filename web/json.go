package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	// maxJSONBytes is the largest body of a request about access, keys or nodes.
	maxJSONBytes = 64 << 10
	// maxShortJSONBytes is the largest body of a request about a subscription, a topic or dead letters.
	maxShortJSONBytes = 4 << 10
)

// readJSON decodes a body of at most limit bytes that is one JSON value without unknown fields. expected ends the error message
// and gives an example.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, limit int64, into any, expected string) error {
	body, err := s.readBody(w, r, limit, hub.Errorf(hub.CodeTooLarge, "body: exceeds %d bytes", limit))
	defer body.release()
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body.bytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return hub.ParamErrorf("body", "cannot be decoded (%s); %s", problem.OneLine(err.Error()), expected)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return hub.ParamErrorf("body", "has data after the JSON; %s", expected)
	}
	return nil
}

// writeJSON answers with v, which must be encodable.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // a bug; ServeHTTP recovers and logs it
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // fails only if the client is gone
}
