package web

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var openAPI string

// getOpenAPI serves the OpenAPI description of the API.
func getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write([]byte(openAPI))
}
