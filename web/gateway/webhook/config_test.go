package webhook_test

import (
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/webhook"
)

// TestWebhookConfigurations: what is wrong is said with what is expected, and without the secret.
func TestWebhookConfigurations(t *testing.T) {
	const secret = "a secret of sixteen bytes"
	one := []string{secret}
	hmac := func(change func(*webhook.Config)) webhook.Config {
		c := webhook.Config{Scheme: "hmac", Secrets: one, Header: "X-Signature"}
		change(&c)
		return c
	}
	for want, c := range map[string]webhook.Config{
		`scheme is ""; expected github, stripe, slack, standard-webhooks or hmac`:         {Secrets: one},
		`scheme is "GitHub"; expected github`:                                             {Scheme: "GitHub", Secrets: one},
		`secrets is empty`:                                                                {Scheme: "github"},
		`secrets has 9 entries; expected at most 8`:                                       {Scheme: "github", Secrets: make([]string, 9)},
		`secrets[1] has 5 bytes; expected at least 16`:                                    {Scheme: "github", Secrets: []string{secret, "short"}},
		`secrets[0] begins or ends with a space`:                                          {Scheme: "github", Secrets: []string{secret + "\n"}},
		`secrets[0] is no signing secret of stripe; expected one that begins with whsec_`: {Scheme: "stripe", Secrets: []string{"sk_live_" + secret}},
		`secrets[0] is not in base64`:                                                     {Scheme: "standard-webhooks", Secrets: []string{"whsec_" + secret}},
		`secrets[0] has 12 bytes in base64; expected at least 16`:                         {Scheme: "standard-webhooks", Secrets: []string{"whsec_c2hvcnQgc2VjcmV0"}},
		`secrets[0] has 18 bytes after whpk_; expected the 32`:                            {Scheme: "standard-webhooks", Secrets: []string{"whpk_plJ3nmyCDGBKInavdOK15jsl"}},
		`tolerance has no effect: github signs no time`:                                   {Scheme: "github", Secrets: one, Tolerance: time.Minute},
		`tolerance is 25h0m0s; expected at most 24h0m0s`:                                  {Scheme: "slack", Secrets: one, Tolerance: 25 * time.Hour},
		`tolerance is -1s`:                                                                {Scheme: "slack", Secrets: one, Tolerance: -time.Second},
		`header is set, but slack says itself how it signs`:                               {Scheme: "slack", Secrets: one, Header: "X"},
		`signed is set, but github says itself how it signs`:                              {Scheme: "github", Secrets: one, Signed: "{body}"},
		`header is ""; expected the name of a header`:                                     hmac(func(c *webhook.Config) { c.Header = "" }),
		`id_header is "X Y"; expected the name of a header`:                               hmac(func(c *webhook.Config) { c.IDHeader = "X Y" }),
		`algorithm is "sha1"; expected sha256, sha384 or sha512`:                          hmac(func(c *webhook.Config) { c.Algorithm = "sha1" }),
		`encoding is "base32"; expected hex or base64`:                                    hmac(func(c *webhook.Config) { c.Encoding = "base32" }),
		`timestamp_format is "iso"; expected unix`:                                        hmac(func(c *webhook.Config) { c.TimestampHeader, c.TimestampFormat = "T", "iso" }),
		`timestamp_format has no effect without timestamp_header`:                         hmac(func(c *webhook.Config) { c.TimestampFormat = "unix" }),
		`tolerance has no effect without timestamp_header`:                                hmac(func(c *webhook.Config) { c.Tolerance = time.Minute }),
		`signed is "{id}", which does not cover the body`:                                 hmac(func(c *webhook.Config) { c.IDHeader, c.Signed = "I", "{id}" }),
		`signed is "{body}", which does not cover the time in T`:                          hmac(func(c *webhook.Config) { c.TimestampHeader, c.Signed = "T", "{body}" }),
		`signed is "{timestamp}.{body}", but no timestamp_header`:                         hmac(func(c *webhook.Config) { c.Signed = "{timestamp}.{body}" }),
		`signed is "{id}.{body}", but no id_header`:                                       hmac(func(c *webhook.Config) { c.Signed = "{id}.{body}" }),
		`signed is "{id}{body}", where {id} or {body} is not set`:                         hmac(func(c *webhook.Config) { c.IDHeader, c.Signed = "I", "{id}{body}" }),
		`signed is "{body}{id}", where {id} or {body} is not set`:                         hmac(func(c *webhook.Config) { c.IDHeader, c.Signed = "I", "{body}{id}" }),
		`signed is "{body}{body}", which has {body} twice`:                                hmac(func(c *webhook.Config) { c.Signed = "{body}{body}" }),
		`signed is "{url}{body}"; expected text with {body}`:                              hmac(func(c *webhook.Config) { c.Signed = "{url}{body}" }),
		`signed is "{body"; expected text with {body}`:                                    hmac(func(c *webhook.Config) { c.Signed = "{body" }),
	} {
		_, err := webhook.New(c)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
