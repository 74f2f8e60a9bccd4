package configs_test

import (
	"strings"
	"testing"

	"quorumhub/configs"
)

// What is in front of a socket decides about the URL; a socket itself has none.
func TestSockets(t *testing.T) {
	for _, tc := range []struct {
		set  []string
		says string // "": it is valid
	}{
		{[]string{"http.addr=unix:/run/hub.sock", "http.public_url=https://hub.example"}, ""},
		{[]string{"http.addr=systemd", "http.public_url=https://hub.example", "auth.mode=open"}, ""},
		{[]string{"http.addr=unix:/run/hub.sock"}, "http.public_url"},
		{[]string{"http.addr=systemd", "auth.mode=open"}, "http.public_url"},
		{[]string{"http.addr=systemd", "http.public_url=https://hub.example"}, "auth.mode"},
		{[]string{"http.addr=unix:hub.sock", "http.public_url=https://hub.example"}, "unix:/path"},
		{[]string{"http.addr=unix:/" + strings.Repeat("x", 103), "http.public_url=https://hub.example"}, "103 bytes"},
		{[]string{"http.socket_mode=0999"}, "0660"},
		{[]string{"http.socket_mode=10777"}, "0660"},
		{[]string{"http.cors_origins=https://app.example.org,http://localhost:3000"}, ""},
		{[]string{"http.cors_origins=*"}, "an origin"},
		{[]string{"http.cors_origins=https://App.example.org"}, "an origin"},
		{[]string{"http.cors_origins=https://app.example.org/x"}, "an origin"},
		{[]string{"http.cors_origins=https://app.example.org:443"}, "an origin"},
	} {
		_, err := configs.Load(configs.Source{Set: tc.set})
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v, want %q", tc.set, err, tc.says)
		}
	}
}
