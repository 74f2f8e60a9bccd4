package sequence_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
)

// nonces counts claims, and takes each nonce once.
type nonces struct {
	n    atomic.Int32
	seen map[[32]byte]bool
}

func (n *nonces) Claim(_ context.Context, _ string, nonce [32]byte, _ time.Time) (bool, error) {
	n.n.Add(1)
	if n.seen == nil {
		n.seen = map[[32]byte]bool{}
	}
	fresh := !n.seen[nonce]
	n.seen[nonce] = true
	return fresh, nil
}

type withGEO struct {
	*stage
	request *http.Request
}

// geoStage is a stage with credentials for one use: requests with GEO-Auth.
func geoStage(t *testing.T, steps string, n *nonces) *withGEO {
	t.Helper()
	text := strings.Replace(common, "KEY", "0123456789ab", 1) + "geo_auth: {keys: [{id: k, secret_env: QUORUMHUB_GEO}]}\nsequences: {seq: {steps: " + steps +
		"}}\nservice_providers: [{name: app, protocol: pages, sequence: seq}]\n"
	settings, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, signIn)
	s.settings = settings
	s.gate = auth.NewGate(settings, auth.NewGEO(*settings.GEOAuth, n, time.Now), auth.NewAPIKeys(keys(settings), time.Now))
	s.p = s.node()
	signed := "geo-key-id=k&geo-expires-by=" + strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10) + "&geo-nonce=3f2504e0-4f89-11d3-9a0c-0305e82c3301"
	mac := hmac.New(sha512.New, []byte(strings.Repeat("0123456789abcdef", 4)))
	mac.Write([]byte(signed))
	return &withGEO{s, httptest.NewRequest(http.MethodGet, "/x?"+signed+"&geo-signature="+hex.EncodeToString(mac.Sum(nil)), nil)}
}

func (s *withGEO) geo() *sequence.Request {
	return &sequence.Request{Provider: "app", Credentials: &auth.Request{HTTP: s.request, Host: "h", Scheme: "https"}, Client: "192.0.2.1"}
}
