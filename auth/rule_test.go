package auth_test

import (
	"strings"
	"testing"

	"quorumhub/auth"
)

// mosip has rules for roles that are named after topics.
const mosip = `
rules:
  - name: publish-general
    may: [publish, topic.register, topic.deregister]
    topics: ["{topic}"]
    who: [{role: "PUBLISH_{topic}_GENERAL"}]
  - name: publish-individual
    may: [publish, topic.register, topic.deregister]
    topics: ["{partner}/{topic...}"]
    who: [{role: "PUBLISH_{topic}_ALL_INDIVIDUAL"}]
  - name: subscribe-general
    may: [subscribe, unsubscribe]
    topics: ["{topic}"]
    who: [{role: "SUBSCRIBE_{topic}_GENERAL"}]
  - name: subscribe-individual
    may: [subscribe, unsubscribe]
    topics: ["{partner}/{topic...}"]
    who: [{role: "SUBSCRIBE_{topic}_INDIVIDUAL", user: "service-account-{partner}"}]
  - name: news
    may: [read]
    topics: [news, "public/**", "https://feeds.example.org/*"]
    who: [{anonymous: true}]
  - name: operators
    may: [admin.*]
    who: [{scope: hub.admin, issuer: idp}]
issuers:
  - {name: idp, issuer: "https://idp.example", audiences: [hub]}
`

func rules(t *testing.T, text string) []auth.Rule {
	t.Helper()
	s, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Rules
}

func TestDecide(t *testing.T) {
	rs := rules(t, mosip)
	printer := &auth.Principal{Method: auth.MethodToken, Authority: "idp", Subject: "1", User: "service-account-print",
		Roles: []string{"SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL", "PUBLISH_CREDENTIAL_STATUS_UPDATE_GENERAL"}}
	creator := &auth.Principal{Method: auth.MethodToken, Authority: "idp", Subject: "2", Roles: []string{"PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL"}}
	operator := &auth.Principal{Method: auth.MethodToken, Authority: "idp", Subject: "3", Scopes: []string{"hub.admin"}}
	stranger := &auth.Principal{Method: auth.MethodAPIKey, Subject: "4", Scopes: []string{"hub.admin"}}

	for _, c := range []struct {
		p     *auth.Principal
		a     auth.Action
		topic string
		want  string // the rule, or what is missing
	}{
		{printer, auth.ActionSubscribe, "print/CREDENTIAL_ISSUED", "subscribe-individual"},
		{printer, auth.ActionUnsubscribe, "print/CREDENTIAL_ISSUED", "subscribe-individual"},
		{printer, auth.ActionSubscribe, "other/CREDENTIAL_ISSUED", "user service-account-other"},
		{printer, auth.ActionSubscribe, "CREDENTIAL_ISSUED", "role SUBSCRIBE_CREDENTIAL_ISSUED_GENERAL"},
		{printer, auth.ActionPublish, "print/CREDENTIAL_ISSUED", "role PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL"},
		{printer, auth.ActionPublish, "CREDENTIAL_STATUS_UPDATE", "publish-general"},
		{printer, auth.ActionDeregister, "CREDENTIAL_STATUS_UPDATE", "publish-general"},
		{creator, auth.ActionPublish, "anybody/CREDENTIAL_ISSUED", "publish-individual"},
		{creator, auth.ActionPublish, "anybody/x/CREDENTIAL_ISSUED", "role PUBLISH_x/CREDENTIAL_ISSUED_ALL_INDIVIDUAL"},
		{creator, auth.ActionSubscribe, "anybody/CREDENTIAL_ISSUED", "user service-account-anybody and role SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL"},
		{creator, auth.ActionPublish, "/CREDENTIAL_ISSUED", "no rule"},
		{creator, auth.ActionPublish, "a/", "no rule"},
		{creator, auth.ActionPublish, "", "no rule"},
		{auth.Anonymous(), auth.ActionPublish, "x", "credentials"},
		{auth.Anonymous(), auth.ActionRead, "news", "news"},
		{auth.Anonymous(), auth.ActionRead, "public/a/b", "news"},
		{auth.Anonymous(), auth.ActionRead, "public", "no rule"},
		{auth.Anonymous(), auth.ActionRead, "public/", "no rule"},
		{auth.Anonymous(), auth.ActionRead, "https://feeds.example.org/a", "news"},
		{auth.Anonymous(), auth.ActionRead, "https://feeds.example.org/a/b", "no rule"},
		{auth.Anonymous(), auth.ActionSubscribe, "news", "credentials"},
		{auth.Anonymous(), auth.ActionView, "", "credentials"},
		{operator, auth.ActionCluster, "", "operators"},
		{operator, auth.ActionView, "any/topic", "no rule"},
		{operator, auth.ActionPublish, "x", "role PUBLISH_x_GENERAL"},
		{stranger, auth.ActionCluster, "", "issuer idp"},
	} {
		d := auth.Decide(rs, c.p, c.a, c.topic)
		got := d.Reason()
		if !strings.Contains(got, c.want) || d.Allowed != strings.HasPrefix(got, "allowed") {
			t.Errorf("%s %s %q: %s; want %q", c.p, c.a, c.topic, got, c.want)
		}
	}
	if d := auth.Decide(nil, operator, auth.ActionView, ""); d.Allowed {
		t.Error("something is allowed without rules")
	}
}

// A topic's name must never act as a pattern.
func TestTopicNamesAreNotPatterns(t *testing.T) {
	rs := rules(t, mosip)
	p := &auth.Principal{Method: auth.MethodToken, Subject: "1", User: "service-account-{partner}",
		Roles: []string{"SUBSCRIBE_{topic}_INDIVIDUAL", "PUBLISH_*_GENERAL"}}
	for _, topic := range []string{"{partner}/X", "x/{topic}", "*/*", "**"} {
		if d := auth.Decide(rs, p, auth.ActionSubscribe, topic); d.Allowed && topic != "{partner}/{topic}" {
			t.Errorf("%q: %s", topic, d.Reason())
		}
	}
	if d := auth.Decide(rs, p, auth.ActionPublish, "CREDENTIAL"); d.Allowed {
		t.Errorf("a role with * was treated as a pattern: %s", d.Reason())
	}
}

func TestInvalidSettings(t *testing.T) {
	issuer := "issuers: [{name: a, issuer: 'https://a.example', audiences: [hub]%s}]"
	rule := "rules: [{name: r, may: [publish], topics: ['**'], who: [{role: x}]%s}]"
	for text, want := range map[string]string{
		"issuer: x": "unknown key",
		"issuers: [{name: a, issuer: 'http://a.example', audiences: [hub]}]":                                                        "expected https",
		"issuers: [{name: a, issuer: 'https://a.example'}]":                                                                         "audiences",
		"issuers: [{name: a b, issuer: 'https://a.example', audiences: [x]}]":                                                       "name",
		strings.Replace(issuer, "%s", ", algorithms: [HS256]", 1):                                                                   "HS256",
		strings.Replace(issuer, "%s", ", algorithms: [none]", 1):                                                                    "none",
		strings.Replace(issuer, "%s", ", typ: loose", 1):                                                                            "strict or any",
		strings.Replace(issuer, "%s", ", leeway: 1h", 1):                                                                            "leeway",
		strings.Replace(issuer, "%s", ", claims: {roles: [roles]}", 1):                                                              "JSON pointer",
		strings.Replace(issuer, "%s", ", jwks_url: 'http://10.0.0.1/keys'", 1):                                                      "jwks_url",
		"issuers: [{name: a, issuer: 'https://a.example', audiences: [x]}, {name: a, issuer: 'https://b.example', audiences: [x]}]": "duplicate",
		"rules: [{name: r, may: [fly], topics: ['**'], who: [{role: x}]}]":                                                          "fly",
		"rules: [{name: r, may: [publish], who: [{role: x}]}]":                                                                      "topics",
		"rules: [{name: r, may: [publish], topics: ['**']}]":                                                                        "who: is empty",
		"rules: [{name: r, may: [publish], topics: ['**'], who: [{}]}]":                                                             "is empty; anonymous: true",
		"rules: [{name: r, may: [publish], topics: ['a*'], who: [{role: x}]}]":                                                      "whole segments",
		"rules: [{name: r, may: [publish], topics: ['**/a'], who: [{role: x}]}]":                                                    "last segment",
		"rules: [{name: r, may: [publish], topics: ['{a}/{a}'], who: [{role: x}]}]":                                                 "duplicate",
		"rules: [{name: r, may: [publish], topics: ['{a}', 'b'], who: [{role: 'X_{a}'}]}]":                                          "not bound",
		"rules: [{name: r, may: [publish], topics: ['**'], who: [{anonymous: true, role: x}]}]":                                     "excludes all other",
		"rules: [{name: r, may: [publish], topics: ['**'], who: [{issuer: nobody}]}]":                                               "unknown issuer",
		"rules: [{name: r, may: [publish], topics: ['**'], who: [{method: password}]}]":                                             "method",
		strings.Replace(rule, "%s", "}, {name: r, may: [read], topics: ['**'], who: [{role: x}]", 1):                                "duplicate",
		"client_certificates: {subject: serial}":                                                                                    "uri, dns or cn",
	} {
		if _, err := auth.ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  %v; want %q", text, err, want)
		}
	}
}
