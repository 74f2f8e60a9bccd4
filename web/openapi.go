package web

import (
	_ "embed"
	"net/http"
	"strconv"
	"strings"
)

//go:embed openapi.json
var openAPI string

// getOpenAPI serves the OpenAPI description of the API, whose paths are below that of the public URL.
func (s *Server) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	text := openAPI
	if prefix := prefixOf(s.PublicURL); prefix != "" {
		text = strings.Replace(text, "{", `{"servers": [{"url": `+strconv.Quote(prefix)+`}],`, 1)
	}
	_, _ = w.Write([]byte(text))
}
