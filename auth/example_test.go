package auth_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	httpsig "github.com/remitly-oss/httpsig-go"

	"quorumhub/auth"
)

// fresh accepts every nonce. A hub shares the used ones between its nodes.
type fresh struct{}

func (fresh) Claim(context.Context, string, [32]byte, time.Time) (bool, error) { return true, nil }

// A meter signs a publish request with a shared secret (RFC 9421); the hub verifies it.
func ExampleSignatures() {
	const secret = "a shared secret of at least 32 bytes"
	if err := os.Setenv("METER_SECRET", secret); err != nil {
		panic(err)
	}
	settings, err := auth.ParseSettings([]byte(`
signed_requests:
  keys:
    - {id: meter-1, algorithm: hmac-sha256, secret_env: METER_SECRET, roles: [device]}
`))
	if err != nil {
		panic(err)
	}

	body := []byte(`{"kWh": 7}`)
	r, err := http.NewRequest(http.MethodPost, "https://hub.example/topics/meters", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/json")
	err = httpsig.Sign(r, httpsig.SigningProfile{
		Algorithm:       httpsig.Algo_HMAC_SHA256,
		Digest:          httpsig.DigestSHA256,
		Fields:          httpsig.Fields("@method", "@authority", "@path", "@query", "content-digest", "content-type"),
		Metadata:        []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaExpires, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag},
		ExpiresDuration: time.Minute,
		Nonce:           httpsig.NonceRandom32,
	}, httpsig.SigningKey{Secret: []byte(secret), MetaKeyID: "meter-1", MetaTag: "websub-hub"})
	if err != nil {
		panic(err)
	}

	signatures := auth.NewSignatures(*settings.SignedRequests, fresh{}, time.Now)
	received := func(body []byte) *auth.Request {
		return &auth.Request{HTTP: r, Host: "hub.example", Scheme: "https", Body: func() ([]byte, error) { return body, nil }}
	}
	p, err := signatures.Authenticate(context.Background(), received(body))
	fmt.Println(p, p.Roles, err)
	_, err = signatures.Authenticate(context.Background(), received([]byte(`{"kWh": 0}`)))
	fmt.Println(err)
	// Output:
	// signature:meter-1 [device] <nil>
	// signature: Content-Digest sha-256 does not match the body
}

// A role becomes a permission through a rule.
func ExampleDecide() {
	rules := []auth.Rule{{
		Name:   "devices publish their own readings",
		May:    []string{"publish"},
		Topics: []string{"meters/{name}"},
		Who:    []auth.Who{{Role: "device", User: "{name}"}},
	}}
	meter := &auth.Principal{Method: auth.MethodSignature, Subject: "meter-1", User: "meter-1", Roles: []string{"device"}}
	for _, topic := range []string{"meters/meter-1", "meters/meter-2"} {
		d := auth.Decide(rules, meter, auth.ActionPublish, topic)
		fmt.Println(d.Allowed, d.Reason())
	}
	// Output:
	// true allowed by rule devices publish their own readings
	// false needs user meter-2
}
