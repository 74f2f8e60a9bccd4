package webhook_test

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/webhook"
)

// FuzzVerify: nobody without the secret gets through, nothing breaks, and no refusal has more than one line.
func FuzzVerify(f *testing.F) {
	var verifiers []webhook.Verifier
	for _, v := range vectors() {
		verifiers = append(verifiers, verifier(f, v.config))
		var lines []string
		for name, values := range v.header {
			lines = append(lines, name+": "+values[0])
		}
		f.Add(strings.Join(lines, "\n"), []byte(v.body), v.at)
		f.Add(strings.Join(lines, "\n")+" ", []byte(v.body+"x"), v.at)
	}
	f.Fuzz(func(t *testing.T, lines string, body []byte, at int64) {
		h := http.Header{}
		for line := range strings.SplitSeq(lines, "\n") {
			name, value, _ := strings.Cut(line, ":")
			h.Add(name, strings.TrimSpace(value))
		}
		for _, v := range verifiers {
			d, err := v.Verify(h, body, time.Unix(at, 0))
			switch {
			case err == nil && !known(string(body)):
				t.Errorf("accepted %q with %q", body, lines)
			case err == nil && d.Claim == "":
				t.Errorf("no claim for %q", body)
			case err != nil && strings.ContainsAny(err.Error(), "\r\n"):
				t.Errorf("refusal of more than one line: %q", err)
			}
		}
		_, _ = webhook.Challenge(body)
	})
}

// known reports whether a body is one of those that the vectors sign.
func known(body string) bool {
	for _, v := range vectors() {
		if v.body == body {
			return true
		}
	}
	return false
}

// FuzzSigned: whatever a sender signs as Config.Signed says is accepted, and read as one id, time and body only.
func FuzzSigned(f *testing.F) {
	f.Add("{timestamp}.{body}", "id", []byte("body"), uint8(1))
	f.Add("v1:{id}:{timestamp}:{body}", "a-b", []byte("x:y"), uint8(2))
	f.Add("{body}/{id}", "x", []byte("a/b"), uint8(1))
	f.Add("{timestamp}{id}.{body}", "1", []byte("1.1"), uint8(1))
	f.Fuzz(func(t *testing.T, signed, id string, body []byte, move uint8) {
		const secret, timestamp = "a secret of sixteen bytes", "1614265330"
		c := webhook.Config{Scheme: "hmac", Secrets: []string{secret}, Header: "S", Encoding: "base64", Signed: signed}
		if strings.Contains(signed, "{timestamp}") {
			c.TimestampHeader = "T"
		}
		if strings.Contains(signed, "{id}") {
			c.IDHeader = "I"
		}
		v, err := webhook.New(c)
		if err != nil {
			return
		}
		text := func(id, timestamp, body string) string {
			out := strings.NewReplacer("{id}", id, "{timestamp}", timestamp, "{body}", body).Replace(cmp.Or(signed, "{body}"))
			return base64.StdEncoding.EncodeToString(mac(secret, out))
		}
		verify := func(id, timestamp, body string) (webhook.Delivery, error) {
			h := http.Header{"S": {text(id, timestamp, body)}, "T": {timestamp}, "I": {id}}
			return v.Verify(h, []byte(body), time.Unix(1614265330, 0))
		}
		if _, err := verify(id, timestamp, string(body)); err != nil {
			return // an id that is not allowed
		}
		// The same signature with a piece moved between the parts.
		signature := text(id, timestamp, string(body))
		n := min(int(move), len(body))
		for _, other := range []struct{ id, timestamp, body string }{
			{id + string(body[:n]), timestamp, string(body[n:])}, {id, timestamp + string(body[:n]), string(body[n:])},
			{string(body[len(body)-n:]) + id, timestamp, string(body[:len(body)-n])}, {id, string(body[len(body)-n:]) + timestamp, string(body[:len(body)-n])},
		} {
			if other.id == id && other.timestamp == timestamp || text(other.id, other.timestamp, other.body) != signature {
				continue
			}
			h := http.Header{"S": {signature}, "T": {other.timestamp}, "I": {other.id}}
			if c.IDHeader == "" && other.id != id || c.TimestampHeader == "" && other.timestamp != timestamp {
				continue
			}
			if _, err := v.Verify(h, []byte(other.body), time.Unix(1614265330, 0)); err == nil {
				t.Errorf("%q: signed for id %q and body %q, accepted for %+v (%s)", signed, id, body, other, hex.EncodeToString(body))
			}
		}
	})
}
