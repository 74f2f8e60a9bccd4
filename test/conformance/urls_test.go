package conformance_test

import (
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// Callbacks and topics are requested byte for byte as given. What may not stand in a URL is percent-encoded, and nothing is decoded
// (RFC 3986 2.2 and 6.2.2.2, RFC 9112 3.2).
func TestURLsAreRequestedAsGiven(t *testing.T) {
	n := shared(t)
	for given, want := range map[string]string{
		"/{t}%2Fx":                "/%7Bt%7D%2Fx",
		"/cb?user=josé":           "/cb?user=jos%C3%A9",
		"/%7Euser/%41%2f?q=%7e":   "/%7Euser/%41%2f?q=%7e",
		"/é|%7c?a|b={c}&d[]=%5b^": "/%C3%A9%7C%7c?a%7Cb=%7Bc%7D&d[]=%5b%5E",
	} {
		t.Run(given, func(t *testing.T) {
			t.Parallel()
			origin := hubtest.NewOrigin(t)
			origin.Put(want, hubtest.Page{Body: []byte("content")})
			topic := origin.URL + given
			s := hubtest.NewSubscriber(t)
			n.Subscribe(t, topic, s.Callback(given))
			joint := "?"
			if strings.Contains(want, "?") {
				joint = "&"
			}
			if asked := s.WaitIntent(t, "subscribe", 1); !strings.HasPrefix(asked.URI, want+joint+"hub.mode=subscribe&") || asked.Value("hub.topic") != topic {
				t.Errorf("verification at %s of %s", asked.URI, asked.Value("hub.topic"))
			}
			n.Ping(t, topic)
			origin.WaitFetches(t, want, 1)
			if d := s.WaitBody(t, "content"); d.URI != want {
				t.Errorf("delivered to %s, want %s", d.URI, want)
			}
		})
	}
}
