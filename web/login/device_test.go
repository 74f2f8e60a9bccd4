package login_test

import (
	"net/http"
	"testing"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
)

// TestDevice: a list of sessions tells somebody's browsers apart.
func TestDevice(t *testing.T) {
	var got string
	h := serve(t, process(func(q *sequence.Request) *sequence.Result {
		got = q.Device
		return &sequence.Result{Status: sequence.Authenticated, Provider: "ball", Principal: &auth.Principal{ID: "x/1"}}
	}), &toy{})
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36":                                   "Chrome on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15":                   "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Android 14; Mobile; rv:120.0) Gecko/120.0 Firefox/120.0":                                                                    "Firefox on Android",
		"\x7f<script>": "",
		"curl/8.1":     "curl",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+"/toy?app=ball", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["User-Agent"] = []string{agent}
		if agent[0] == 0x7f {
			r.Header["User-Agent"] = []string{"<script>"}
		}
		resp, err := h.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got != want {
			t.Errorf("%s: got %q, want %q", agent, got, want)
		}
	}
}
