package secrecy_test

import (
	"encoding/json"
	"strings"

	"quorumhub/test/hubtest"
)

// setRegistry applies a gateway's registry with secrets, one that is refused with its secret in the clear, and a quota.
func (r *run) setRegistry() {
	r.t.Helper()
	apply := func(text string, secrets map[string]string) *hubtest.Reply {
		body, err := json.Marshal(map[string]any{"text": text, "secrets": secrets})
		if err != nil {
			r.t.Fatal(err)
		}
		reply := r.n.Do(r.t, "PUT", "/v1/gateway", r.typed("application/json"), body)
		r.search("answer to a registry", reply.Body)
		return reply
	}
	const text = `version: 1
upstreams: {hr: {urls: ["http://127.0.0.1:1"], headers: {X-Api-Key: "${HR_KEY}"}}}
verifiers: {github: {scheme: github, secret: "${GITHUB}"}}
services:
  - {name: address, uri: address, versions: [{version: "1", target: "hr:/address", methods: [GET], auth: none}]}
  - {name: commits, uri: commits, versions: [{version: "1", target: "topic:news", methods: [POST], auth: none, verifier: github}]}
`
	secrets := map[string]string{"HR_KEY": r.secret("key of an upstream"), "GITHUB": r.secret("secret of a webhook")}
	r.wait("the registry is applied", func() bool { return apply(text, secrets).Status == 200 })
	if reply := apply(strings.Replace(text, "${GITHUB}", r.secret("secret in the clear"), 1), secrets); reply.Status/100 != 4 {
		r.t.Errorf("a secret in the clear: %v", reply)
	}
	if reply := r.n.Do(r.t, "PUT", "/v1/auth/quotas/default", r.typed("application/json"), []byte(`{"topics": 900}`)); reply.Status != 200 {
		r.t.Errorf("a quota: %v", reply)
	}
}
