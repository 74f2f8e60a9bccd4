package compat_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

const (
	formType   = "application/x-www-form-urlencoded"
	printTopic = "mpartner-default-print/CREDENTIAL_ISSUED"
	printUser  = "service-account-mpartner-default-print"
	creator    = "service-account-mosip-creser-client"
	// credential is the body for which the reference gives the signature.
	credential = `{"publisher":"CREDENTIAL_SERVICE","topic":"mpartner-default-print/CREDENTIAL_ISSUED","publishedOn":"2025-01-15T10:20:30.456Z","event":{"id":"0b1f8a44-6a4d-4a39-9a3f-0d6a5d4c9f11","transactionId":"29f2c5e0-7d2b-4d3e-a0b6-7f8d2b1e9c55","type":{"namespace":"mosip","name":"mosip"},"timestamp":"2025-01-15T10:20:30.456Z","dataShareUri":"http://datashare.datashare/v1/datashare/get/mpolicy-default-reprint/mpartner-default-print/abc123","data":{"credentialType":"euin","protectionKey":"123456","proof":{"signature":"eyJhbGciOiJSUzI1NiJ9..sig"}}}}`
)

// mosipRules are the roles of MOSIP's hub, as access rules.
const mosipRules = `
rules:
  - {name: publish-general, may: [publish, topic.register, topic.deregister], topics: ["{topic}"], who: [{role: "PUBLISH_{topic}_GENERAL"}]}
  - {name: publish-individual, may: [publish, topic.register, topic.deregister], topics: ["{partner}/{topic...}"], who: [{role: "PUBLISH_{topic}_ALL_INDIVIDUAL"}]}
  - {name: subscribe-general, may: [subscribe, unsubscribe], topics: ["{topic}"], who: [{role: "SUBSCRIBE_{topic}_GENERAL"}]}
  - {name: subscribe-individual, may: [subscribe, unsubscribe], topics: ["{partner}/{topic...}"], who: [{role: "SUBSCRIBE_{topic}_INDIVIDUAL", user: "service-account-{partner}"}]}
  - {name: operator, may: [admin.*], who: [{role: OPERATOR}]}
`

// settingsFile writes auth.file for the issuer.
func settingsFile(t *testing.T, is *issuer, more, rules string) string {
	t.Helper()
	text := fmt.Sprintf("issuers:\n  - {name: keycloak, issuer: %q, jwks_url: %q, audiences: [account, ballerina], typ: any, algorithms: [ES256], claims: {user: [/preferred_username]}%s}\n%s",
		is.server.URL, is.server.URL+"/keys", more, rules) + viewer()
	path := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// compatHub is a node with a compatible profile and the issuer it trusts.
type compatHub struct {
	*hubtest.Node
	t  *testing.T
	is *issuer
}

func newMOSIP(t *testing.T) *compatHub {
	t.Helper()
	is := newIssuer(t)
	return &compatHub{t: t, is: is, Node: hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{
		"hub.profile": "mosip", "hub.compact_json": true, "topics.auto_register": nil, "hub.lease.default": "24h",
		"auth.mode": "required", "auth.file": settingsFile(t, is, ", cookie: Authorization", mosipRules), "auth.egress.mode": "dev-loopback"}})}
}

// exchange sends a request with a MOSIP cookie and asserts exactly this answer.
func (h *compatHub) exchange(token, method, target, contentType, body string, status int, want string) {
	h.t.Helper()
	header := hubtest.Headers("Content-Type", contentType)
	if token != "" {
		header.Set("Cookie", "Authorization="+token)
	}
	reply := h.Do(h.t, method, target, header, []byte(body))
	if reply.Status != status || string(reply.Body) != want {
		h.t.Errorf("%s %s %s: %d %q, want %d %q", method, target, body, reply.Status, reply.Body, status, want)
	}
	if got := reply.Header.Get("Content-Type"); strings.HasPrefix(want, "hub.mode=") && got != formType {
		h.t.Errorf("%s %s: Content-Type %q, want %s", method, target, got, formType)
	}
}

const accepted = "hub.mode=accepted"

func denied(reason string) string { return "hub.mode=denied&hub.reason=" + reason }

// Requests R1 to R3 of MOSIP's print flow: register, subscribe, publish, signed delivery.
func TestMOSIPPrintFlow(t *testing.T) {
	h := newMOSIP(t)
	publisher := h.is.token(creator, "", "PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL")
	subscriber := h.is.token(printUser, "", "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL", "PUBLISH_CREDENTIAL_STATUS_UPDATE_GENERAL")
	const form = formType + ";charset=UTF-8"
	register := "hub.mode=register&hub.topic=" + url.QueryEscape(printTopic)
	h.exchange(publisher, "POST", "/hub/", form, register, 200, accepted)
	h.exchange(publisher, "POST", "/hub/", form, register, 200, denied("Topic has already registered with the Hub"))
	h.exchange(subscriber, "POST", "/hub/", form, register, 200, denied("Publisher is not authorized"))

	printer := hubtest.NewSubscriber(t)
	printer.OnIntent(func(r hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Status: 202, Body: []byte(r.Value("hub.challenge"))}
	})
	callback := printer.Callback("/v1/print/print/callback/notifyPrint")
	subscribe := "hub.mode=subscribe&hub.topic=" + url.QueryEscape(printTopic) + "&hub.callback=" + url.QueryEscape(callback) + "&hub.secret=Kslk30SNF2AChs2"
	h.exchange(h.is.token("service-account-other", "", "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL"), "POST", "/hub/", form, subscribe, 500, denied("Subscriber is not authorized"))
	h.exchange(subscriber, "POST", "/hub/", form, subscribe, 202, accepted)
	operator := h.is.token("op", "", "OPERATOR")
	h.waitStatus(operator, printTopic, callback, `{"status":"active"}`)
	asked := printer.Requests()[0]
	if got := asked.Value("hub.topic"); got != printTopic {
		t.Errorf("the verification request names topic %q, want %q", got, printTopic)
	}
	if got := asked.Value("hub.lease_seconds"); got != "86400" {
		t.Errorf("the verification request grants %s s, want 86400", got)
	}

	// Today's client sometimes sends whitespace between tokens; the subscriber's verifier reads line by line.
	spaced := strings.Replace(credential, `{"publisher":`, "{\r\n  \"publisher\": ", 1) + "\n"
	publish := "/hub/?hub.mode=publish&hub.topic=" + printTopic
	h.exchange(publisher, "POST", publish, "application/json;charset=UTF-8", spaced, 200, accepted)
	got := printer.WaitDeliveries(t, 1)[0]
	if string(got.Body) != credential {
		t.Errorf("delivered %q, want %q", got.Body, credential)
	}
	if ct := got.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
	const signature = "sha256=3db6edff2eb0ab3104fdfb793191c2a5f59f20a7522d4724f312859b72ed75e5"
	if s := got.Header.Get("X-Hub-Signature"); s != signature {
		t.Errorf("X-Hub-Signature %s, want %s", s, signature)
	}

	// R4: the printer reports the outcome on a topic that nobody registered.
	h.exchange(subscriber, "POST", "/hub/?hub.mode=publish&hub.topic=CREDENTIAL_STATUS_UPDATE", "application/json",
		`{"publisher":"PRINT_SERVICE","topic":"CREDENTIAL_STATUS_UPDATE","event":{"status":"printing"}}`, 200, accepted)

	// A renewal is not an error; the subscription continues.
	h.exchange(subscriber, "POST", "/hub/", form, subscribe, 202, accepted)
	h.exchange(publisher, "POST", publish, "application/json", credential, 200, accepted)
	printer.WaitDeliveries(t, 2)

	// The client's name for deregister is unregister.
	h.exchange(publisher, "POST", "/hub/", form, "hub.mode=unregister&hub.topic="+url.QueryEscape(printTopic), 200, accepted)
	h.exchange(publisher, "POST", "/hub/", form, "hub.mode=unregister&hub.topic="+url.QueryEscape(printTopic), 200, denied("Topic has not been registered in the Hub"))
}

// An invalid token gets 401: MOSIP's client then fetches a fresh one and retries.
func TestMOSIPBadTokens(t *testing.T) {
	h := newMOSIP(t)
	register := "hub.mode=register&hub.topic=T"
	for name, token := range map[string]string{"none": "", "expired": h.is.expired("u", "PUBLISH_T_GENERAL"), "garbage": "abc"} {
		header := hubtest.Headers("Content-Type", formType)
		if token != "" {
			header.Set("Cookie", "Authorization="+token)
		}
		reply := h.Do(t, "POST", "/hub/", header, []byte(register))
		want := 401
		if token == "" {
			want = 200 // without a token the answer is hub.mode=denied, as in MOSIP's hub
		}
		if reply.Status != want {
			t.Errorf("%s: %s, want %d", name, reply, want)
		}
	}
	reply := h.Do(t, "GET", "/hub/actuator/health", nil, nil)
	if reply.Status != 200 || !strings.Contains(string(reply.Body), `"UP"`) {
		t.Errorf("health: %s", reply)
	}
}

// waitStatus waits until the consolidator answers want for a subscription.
func (h *compatHub) waitStatus(token, topic, callback, want string) {
	h.t.Helper()
	target := "/consolidator/subscriptions/status?topic=" + url.QueryEscape(topic) + "&callback=" + url.QueryEscape(callback)
	hubtest.Eventually(h.t, "status "+want, func() error {
		reply := h.Do(h.t, "GET", target, hubtest.Headers("Authorization", "Bearer "+token), nil)
		if got := strings.TrimSpace(string(reply.Body)); got != want {
			return fmt.Errorf("%d %s", reply.Status, got)
		}
		return nil
	})
}
