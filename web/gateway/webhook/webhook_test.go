package webhook_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/webhook"
)

// vector is a request that its sender has published, or that was signed here as the sender's pages say.
type vector struct {
	config webhook.Config
	at     int64 // when it arrives
	header http.Header
	body   string
	want   webhook.Delivery
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func mac(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

const (
	stripeSecret = "whsec_test_secret_of_stripe"
	slackSecret  = "8f742231b10e8888abcd99yyyzzz85a5"
	slackBody    = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)

func vectors() map[string]vector {
	key := ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
	stripeBody := `{"id":"evt_1","type":"invoice.paid","data":{"id":"in_1"}}`
	slackEvent := `{"token":"x","type":"event_callback","event_id":"Ev08MFMKH6","event":{"type":"name_of_event"}}`
	generic := func(c webhook.Config) webhook.Config {
		c.Scheme, c.Secrets = "hmac", []string{"a secret of sixteen bytes"}
		return c
	}
	return map[string]vector{
		"github, of its documentation": {
			webhook.Config{Scheme: "github", Secrets: []string{"It's a Secret to Everybody"}}, 1,
			header("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
				"X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "X-GitHub-Event", "issues"), "Hello, World!",
			webhook.Delivery{ID: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "issues", Claim: hash("Hello, World!")},
		},
		"slack, of its documentation": {
			webhook.Config{Scheme: "slack", Secrets: []string{slackSecret}}, 1531420618 + 300,
			header("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
				"X-Slack-Request-Timestamp", "1531420618"), slackBody,
			webhook.Delivery{SentAt: time.Unix(1531420618, 0), Claim: hash("v0:1531420618:" + slackBody), ClaimUntil: time.Unix(1531420618+300, 0)},
		},
		"slack, an event": {
			webhook.Config{Scheme: "slack", Secrets: []string{slackSecret}}, 1531420618 - 300,
			header("X-Slack-Signature", "v0="+hex.EncodeToString(mac(slackSecret, "v0:1531420618:"+slackEvent)),
				"X-Slack-Request-Timestamp", "1531420618"), slackEvent,
			webhook.Delivery{ID: "Ev08MFMKH6", Event: "event_callback", SentAt: time.Unix(1531420618, 0), Claim: "id:Ev08MFMKH6", ClaimUntil: time.Unix(1531420618+300, 0)},
		},
		"standard webhooks, of its specification": {
			webhook.Config{Scheme: "standard-webhooks", Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}, 1614265330,
			header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp", "1614265330",
				"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), `{"test": 2432232314}`,
			webhook.Delivery{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", SentAt: time.Unix(1614265330, 0), Claim: "id:msg_p5jXN8AQM9LWM0D4loKWxJek", ClaimUntil: time.Unix(1614265330+300, 0)},
		},
		"standard webhooks, a public key": {
			webhook.Config{Scheme: "standard-webhooks", Tolerance: time.Minute,
				Secrets: []string{"whpk_" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}}, 1614265330 + 60,
			header("webhook-id", "msg_1", "webhook-timestamp", "1614265330",
				"webhook-signature", "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(`msg_1.1614265330.{"type":"user.created"}`)))), `{"type":"user.created"}`,
			webhook.Delivery{ID: "msg_1", Event: "user.created", SentAt: time.Unix(1614265330, 0), Claim: "id:msg_1", ClaimUntil: time.Unix(1614265330+60, 0)},
		},
		"stripe": {
			webhook.Config{Scheme: "stripe", Secrets: []string{stripeSecret}}, 1492774577,
			header("Stripe-Signature", "t=1492774577,v1="+hex.EncodeToString(mac(stripeSecret, "1492774577."+stripeBody))), stripeBody,
			webhook.Delivery{ID: "evt_1", Event: "invoice.paid", SentAt: time.Unix(1492774577, 0), Claim: "id:evt_1", ClaimUntil: time.Unix(1492774577+300, 0)},
		},
		"hmac, all defaults": {
			generic(webhook.Config{Header: "X-Signature"}), 1, header("X-Signature", hex.EncodeToString(mac("a secret of sixteen bytes", "body"))), "body",
			webhook.Delivery{Claim: hash("body")},
		},
		"hmac, base64, prefix, id and event": {
			generic(webhook.Config{Header: "X-Signature", Encoding: "base64", Prefix: "sha256=", IDHeader: "X-Id", EventHeader: "X-Event"}), 1,
			header("X-Signature", "sha256="+base64.StdEncoding.EncodeToString(mac("a secret of sixteen bytes", "body")), "X-Id", "1.2", "X-Event", "paid"), "body",
			webhook.Delivery{ID: "1.2", Event: "paid", Claim: hash("body")},
		},
		"hmac, time as of Zendesk": {
			generic(webhook.Config{Header: "X-Zendesk-Webhook-Signature", Encoding: "base64", TimestampHeader: "X-Zendesk-Webhook-Signature-Timestamp", TimestampFormat: "rfc3339",
				Signed: "{timestamp}{body}"}), 1616648967,
			header("X-Zendesk-Webhook-Signature", base64.StdEncoding.EncodeToString(mac("a secret of sixteen bytes", "2021-03-25T05:09:27Zbody")),
				"X-Zendesk-Webhook-Signature-Timestamp", "2021-03-25T05:09:27Z"), "body",
			webhook.Delivery{SentAt: time.Unix(1616648967, 0), Claim: hash("2021-03-25T05:09:27Zbody"), ClaimUntil: time.Unix(1616648967+300, 0)},
		},
		"hmac, id, time and body": {
			generic(webhook.Config{Header: "X-Signature", TimestampHeader: "X-Time", TimestampFormat: "unix_ms", IDHeader: "X-Id", Signed: "v1:{id}:{timestamp}:{body}"}), 1616648967,
			header("X-Signature", hex.EncodeToString(mac("a secret of sixteen bytes", "v1:abc:1616648967001:body")), "X-Time", "1616648967001", "X-Id", "abc"), "body",
			webhook.Delivery{ID: "abc", SentAt: time.UnixMilli(1616648967001), Claim: "id:abc", ClaimUntil: time.UnixMilli(1616648967001 + 300_000)},
		},
	}
}

func verifier(t testing.TB, c webhook.Config) webhook.Verifier {
	t.Helper()
	v, err := webhook.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func same(a, b webhook.Delivery) bool {
	return a.ID == b.ID && a.Event == b.Event && a.Claim == b.Claim && a.SentAt.Equal(b.SentAt) && a.ClaimUntil.Equal(b.ClaimUntil)
}

func TestWebhooksOfTheirSenders(t *testing.T) {
	for name, v := range vectors() {
		got, err := verifier(t, v.config).Verify(v.header, []byte(v.body), time.Unix(v.at, 0))
		if err != nil || !same(got, v.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, v.want)
		}
	}
}

// TestForgedWebhooks: whatever is changed, left out, doubled or late is refused with a reason for the log, which shows no
// secret, and with one word for the client.
func TestForgedWebhooks(t *testing.T) {
	for name, v := range vectors() {
		check := verifier(t, v.config)
		refuse := func(what string, h http.Header, body string, at time.Time) {
			t.Helper()
			d, err := check.Verify(h, []byte(body), at)
			var refusal *webhook.RefusalError
			if !errors.As(err, &refusal) || d != (webhook.Delivery{}) {
				t.Errorf("%s, %s: got %+v, %v; want a refusal", name, what, d, err)
				return
			}
			if p := refusal.Problem(); p.Status != 401 || p.Detail != "signature" || p.Code != "unauthenticated" {
				t.Errorf("%s, %s: problem %+v", name, what, p)
			}
			for _, s := range v.config.Secrets {
				if strings.Contains(err.Error(), s) || strings.Contains(err.Error(), hex.EncodeToString(mac(s, body))) {
					t.Errorf("%s, %s: the log gets a secret: %v", name, what, err)
				}
			}
		}
		now := time.Unix(v.at, 0)
		refuse("body longer", v.header, v.body+" ", now)
		refuse("body shorter", v.header, v.body[1:], now)
		refuse("no body", v.header, "", now)
		refuse("no header", http.Header{}, v.body, now)
		if !v.want.SentAt.IsZero() {
			tolerance := v.want.ClaimUntil.Sub(v.want.SentAt)
			refuse("late", v.header, v.body, v.want.SentAt.Add(tolerance+time.Second))
			refuse("early", v.header, v.body, v.want.SentAt.Add(-tolerance-time.Second))
		}
		unsigned := map[string]bool{"X-Github-Delivery": true, "X-Github-Event": true, "X-Event": true,
			"X-Id": !strings.Contains(v.config.Signed, "{id}")}
		for field, values := range v.header {
			for what, value := range map[string][]string{"missing": nil, "empty": {""}, "twice": {values[0], values[0]}, "with another before": {"x", values[0]},
				"too long": {strings.Repeat(values[0], 300)}, "with a line break": {values[0] + "\n"}} {
				h := maps.Clone(v.header)
				h[field] = value
				refuse(field+" "+what, h, v.body, now)
			}
			if unsigned[field] {
				continue
			}
			for i := range values[0] {
				h := maps.Clone(v.header)
				changed := []byte(values[0])
				if changed[i] ^= 1; values[0][i] == '=' && strings.HasSuffix(field, "Signature") {
					continue // padding
				}
				h[field] = []string{string(changed)}
				refuse(fmt.Sprintf("%s changed at %d", field, i), h, v.body, now)
			}
		}
		other := v.config
		other.Secrets = []string{strings.ReplaceAll(v.config.Secrets[0], v.config.Secrets[0][len(v.config.Secrets[0])-4:], "AAAA")}
		if strings.HasPrefix(other.Secrets[0], "whpk_") {
			other.Secrets = []string{"whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
		}
		check = verifier(t, other)
		refuse("another secret", v.header, v.body, now)
	}
}

// TestSecretsRotate: a request signed with any of the secrets is good, in any order, and one with several signatures if
// any of them is.
func TestSecretsRotate(t *testing.T) {
	for name, v := range vectors() {
		former := "another secret of any length"
		switch v.config.Scheme {
		case "stripe":
			former = "whsec_" + former
		case "standard-webhooks":
			former = "whsec_" + base64.StdEncoding.EncodeToString([]byte(former))
		}
		for _, secrets := range [][]string{{former, v.config.Secrets[0]}, {v.config.Secrets[0], former}} {
			c := v.config
			c.Secrets = secrets
			if _, err := verifier(t, c).Verify(v.header, []byte(v.body), time.Unix(v.at, 0)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	wrong := strings.Repeat("0", 64)
	s := vectors()["stripe"]
	good := strings.TrimPrefix(s.header.Get("Stripe-Signature"), "t=1492774577,")
	for text, ok := range map[string]bool{
		"t=1492774577,v1=" + wrong + "," + good + ",v0=" + wrong:       true,
		"t=1492774577, " + good + ", v1=" + wrong:                      true,
		good + ",t=1492774577":                                         true,
		"t=1492774577,v0=" + strings.TrimPrefix(good, "v1="):           false, // a scheme of the past
		"t=1492774577,v2=" + strings.TrimPrefix(good, "v1="):           false,
		"t=1492774577,t=1492774577," + good:                            false,
		"t=01492774577," + good:                                        false,
		"t=1492774577.0," + good:                                       false,
		"t=+1492774577," + good:                                        false,
		"t=," + good:                                                   false,
		"t=1492774577":                                                 false,
		"t=1492774577" + strings.Repeat(",v1="+wrong, 16) + "," + good: false, // too many
		"t=1492774577" + strings.Repeat(",v1="+wrong, 15) + "," + good: true,
	} {
		if _, err := verifier(t, s.config).Verify(header("Stripe-Signature", text), []byte(s.body), time.Unix(s.at, 0)); (err == nil) != ok {
			t.Errorf("%s: %v, want good %v", text, err, ok)
		}
	}
	g := vectors()["github, of its documentation"]
	for _, prefix := range []string{"", "sha1=", "sha512=", "SHA256="} {
		h := maps.Clone(g.header)
		h.Set("X-Hub-Signature-256", prefix+strings.TrimPrefix(h.Get("X-Hub-Signature-256"), "sha256="))
		if _, err := verifier(t, g.config).Verify(h, []byte(g.body), time.Unix(g.at, 0)); err == nil {
			t.Errorf("github with %q in place of sha256=: accepted", prefix)
		}
	}
	w := vectors()["standard webhooks, of its specification"]
	good = w.header.Get("webhook-signature")
	for text, ok := range map[string]bool{
		"v1,AAAA " + good + " v1a,AAAA v2,x":    true,
		strings.Replace(good, "v1,", "v1a,", 1): false,
		strings.Replace(good, "v1,", "v2,", 1):  false,
		strings.TrimPrefix(good, "v1,"):         false,
	} {
		h := maps.Clone(w.header)
		h.Set("webhook-signature", text)
		if _, err := verifier(t, w.config).Verify(h, []byte(w.body), time.Unix(w.at, 0)); (err == nil) != ok {
			t.Errorf("%s: %v, want good %v", text, err, ok)
		}
	}
}

// TestWebhooksThatCouldBeTakenApartDifferently: what is signed has one reading.
func TestWebhooksThatCouldBeTakenApartDifferently(t *testing.T) {
	const secret = "a secret of sixteen bytes"
	// "msg" at 1614265330 with the body 7.x is "msg.1614265330" at 7 with the body x.
	v := verifier(t, webhook.Config{Scheme: "standard-webhooks", Secrets: []string{base64.StdEncoding.EncodeToString([]byte(secret))}})
	h := header("webhook-id", "msg.1614265330", "webhook-timestamp", "7", "webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac(secret, "msg.1614265330.7.x")))
	if _, err := v.Verify(h, []byte("x"), time.Unix(7, 0)); err == nil {
		t.Error("an id with a dot was accepted")
	}
	g := verifier(t, webhook.Config{Scheme: "hmac", Secrets: []string{secret}, Header: "S", IDHeader: "I", Signed: "{body}/{id}"})
	if _, err := g.Verify(header("S", hex.EncodeToString(mac(secret, "a/b/c")), "I", "c"), []byte("a/b"), time.Now()); err != nil {
		t.Errorf("as it was signed: %v", err)
	}
	if _, err := g.Verify(header("S", hex.EncodeToString(mac(secret, "a/b/c")), "I", "b/c"), []byte("a"), time.Now()); err == nil {
		t.Error("the id took a part of the body")
	}
	// 10 digits are seconds; with 13, three came from the body.
	n := verifier(t, webhook.Config{Scheme: "hmac", Secrets: []string{secret}, Header: "S", TimestampHeader: "T", Signed: "{timestamp}{body}"})
	if _, err := n.Verify(header("S", hex.EncodeToString(mac(secret, "1614265330123")), "T", "1614265330123"), nil, time.Unix(1614265330, 0)); err == nil {
		t.Error("the time took a part of the body")
	}
	if _, err := n.Verify(header("S", hex.EncodeToString(mac(secret, "16142653301")), "T", "16142653301"), nil, time.Unix(16142653301, 0)); err == nil {
		t.Error("the time took a digit of the body")
	}
}

// TestClaimsAreCoveredBySignatures: a copy with another id is the same claim.
func TestClaimsAreCoveredBySignatures(t *testing.T) {
	for _, name := range []string{"github, of its documentation", "hmac, base64, prefix, id and event"} {
		v := vectors()[name]
		h := maps.Clone(v.header)
		h.Set(map[string]string{"github": "X-GitHub-Delivery", "hmac": "X-Id"}[v.config.Scheme], "another")
		got, err := verifier(t, v.config).Verify(h, []byte(v.body), time.Unix(v.at, 0))
		if err != nil || got.ID != "another" || got.Claim != v.want.Claim || !got.ClaimUntil.IsZero() {
			t.Errorf("%s: got %+v, %v; want another id with the same claim", name, got, err)
		}
	}
}

func TestChallenge(t *testing.T) {
	for body, want := range map[string]string{
		`{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}`: `{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}`,
		`{"challenge":"<script>","type":"url_verification"}`:                          `{"challenge":"\u003cscript\u003e"}`,
		`{"challenge":"x","type":"event_callback"}`:                                   "",
		`{"challenge":"","type":"url_verification"}`:                                  "",
		`{"challenge":7,"type":"url_verification"}`:                                   "",
		`{"challenge":"` + strings.Repeat("x", 1025) + `","type":"url_verification"}`: "",
		`challenge=x&type=url_verification`:                                           "",
		``:                                                                            "",
	} {
		if got, ok := webhook.Challenge([]byte(body)); string(got) != want || ok != (want != "") {
			t.Errorf("%s: got %s, %v; want %s", body, got, ok, want)
		}
	}
}
