package registry

import "quorumhub/web/gateway/webhook"

// grammar is the shape of a whole registry.
func grammar() *shape {
	f := newForms()
	g := &words{forms: f, limits: object(
		key("rate", scalar(f.rate), "How many requests one principal may send, such as 100/1m."),
		key("concurrency", scalar(integer(1, 1_000_000)), "How many requests of one principal may be in flight."),
	), protect: protectShape(f), headers: names(f.headerName, referring(f.line), "header")}
	return object(
		required("version", scalar(integer(1, 1)), "The version of the format: 1."),
		key("prefix", scalar(matching(`(?:/[A-Za-z0-9._~-]+)+`, "a path such as /gateway", 256)), "The path that all services are under; default: /gateway."),
		key("defaults", g.defaults(), "What applies to every version that does not say otherwise."),
		key("upstreams", names(f.name, g.upstream(), "upstream"), "The services behind the gateway. Nothing else is ever called."),
		key("verifiers", names(f.name, g.verifier(), "verifier"), "Senders of webhooks, and how their signatures are checked."),
		key("sequences", names(f.name, some(g.step(), "step"), "sequence"), "Sequences of authentication steps."),
		key("trust", names(f.name, g.trust(), "trust"), "Authorities that certificates of partners are checked against."),
		key("keys", names(f.name, g.key(), "key"), "The hub's own private keys, which decrypt protected requests."),
		key("services", list(g.service(), "service").atMost(maxServices), "What the gateway serves."),
		key("topics", list(g.topic(), "topic").atMost(maxTopics), "Policies of topics; the first that matches applies."),
		key("$schema", scalar(f.line), "The JSON Schema, for editors; ignored."),
	)
}

// words are what several parts of the grammar share.
type words struct {
	*forms
	limits, protect, headers *shape
}

func (g *words) defaults() *shape {
	return object(
		key("timeout", scalar(g.duration), "How long a request may take; default: 10s."),
		key("max_body", scalar(g.size), "How large a request's body may be; default: 1MiB."),
		key("produces", some(scalar(g.format), "format"), "The formats of responses: json, xml; default: what the upstream sends."),
		key("auth", scalar(g.auth), "How callers authenticate; default: default, which is what the hub itself accepts."),
	)
}

func (g *words) upstream() *shape {
	return object(
		required("urls", some(referring(g.upstreamURL), "url"), "Its addresses."),
		key("retry", scalar(integer(0, 10)), "Further attempts of an idempotent request; default: 0."),
		key("breaker", object(
			key("failures", scalar(integer(0, 1_000_000)), "It opens after so many failures in a row; 0: never."),
			key("open_for", scalar(g.duration), "How long it stays open; default: 10s."),
		), "The circuit breaker."),
		key("headers", g.headers, "Headers that are added to requests."),
		key("timeout", scalar(g.duration), "Bounds the connection and the response's header."),
		key("connect_timeout", scalar(g.duration), "Bounds the wait for a connection; default: 3s."),
		key("idle_timeout", scalar(g.duration), "Bounds each wait for the next piece of a response; default: 30s."),
		key("max_in_flight", scalar(integer(1, 1_000_000)), "Requests under way on a node; more are answered with 429; default: 2048."),
		key("eject", object(
			key("failures", scalar(integer(0, 1_000_000)), "An address is left out after so many failures in a row; 0: never; default: 3."),
			key("for", scalar(g.duration), "For how long, doubled while it keeps failing; default: 5s."),
			key("max", scalar(g.duration), "For how long at most; default: 5m."),
		), "Addresses that fail, if there are several."),
		key("token", object(
			required("audience", referring(g.line), "The token's audience."),
			key("ttl", scalar(g.duration), "How long it is valid; default: 60s."),
			key("claims", names(g.line, &shape{kind: anyKind}, "claim"), "Further claims."),
			key("accounts", scalar(g.line), "Where accounts are listed: a file, topic:<name>, or a URL."),
		), "A token for the service behind."),
	)
}

func (g *words) verifier() *shape {
	return object(
		required("scheme", scalar(oneOf(webhook.SchemeGitHub, webhook.SchemeStripe, webhook.SchemeSlack, webhook.SchemeStandardWebhooks, webhook.SchemeHMAC)), "How the sender signs."),
		key("secret", secret(g.secretText), "The shared secret, as a reference."),
		key("secrets", some(secret(g.secretText), "secret"), "Several shared secrets, while they are rotated."),
		key("tolerance", scalar(g.duration), "How far the sender's clock may be off; default: 5m."),
		key("header", scalar(g.headerName), "hmac: the header with the signature."),
		key("algorithm", scalar(oneOf("sha256", "sha384", "sha512")), "hmac: the hash; default: sha256."),
		key("encoding", scalar(oneOf("hex", "base64")), "hmac: of the signature; default: hex."),
		key("prefix", scalar(g.line), "hmac: what stands before the signature, such as sha256=."),
		key("timestamp_header", scalar(g.headerName), "hmac: the header with the time."),
		key("timestamp_format", scalar(oneOf("unix", "unix_ms", "rfc3339")), "hmac: of the time; default: unix (seconds)."),
		key("id_header", scalar(g.headerName), "hmac: the header with the delivery's ID."),
		key("event_header", scalar(g.headerName), "hmac: the header with the kind of event."),
		key("signed", scalar(g.line), "hmac: the text that is signed, of {body}, {timestamp} and {id}; default: {body}, or {timestamp}.{body}."),
	)
}

func (g *words) step() *shape {
	return object(
		key("strategy", scalar(oneOf("single", "multi", "parallel", "failover")), "How its authenticators are tried; default: single."),
		required("of", some(scalar(g.name), "authenticator"), "Names of authenticators."),
		key("require", scalar(oneOf("all", "any")), "parallel: who must succeed; default: all."),
		key("min", scalar(integer(1, 100)), "parallel: how many must succeed."),
		key("retries", scalar(integer(0, 10)), "Further attempts after a failure; default: 0."),
	)
}

func (g *words) trust() *shape {
	return object(
		required("roots", scalar(g.file), "A PEM file of certificates."),
		key("crl", scalar(g.file), "A file with a revocation list, in PEM or DER."),
	)
}

func (g *words) key() *shape {
	return object(
		required("private", secret(&form{expected: "a private key, as ${file:NAME}", maxBytes: 65536}), "The private key in PEM or as a JWK, as a reference."),
	)
}

func (g *words) service() *shape {
	return object(
		required("name", scalar(g.name), "The service's name."),
		required("uri", scalar(g.uri), "Relative to the prefix. A segment {name} stands for any one; /* at the end for all below it."),
		key("aliases", list(object(
			required("uri", scalar(g.uri), "Another URI of the service."),
			key("status", scalar(&form{enum: []string{"301", "302", "307", "308"}, expected: "301, 302, 307 or 308", onlyNumber: true}), "Redirects with this status; default: rewritten inside."),
		), "alias"), "Other URIs of the service."),
		key("default", scalar(g.version), "The version of requests that name none; not needed with one version."),
		required("versions", some(g.serviceVersion(), "version"), "Its versions."),
	)
}

func (g *words) serviceVersion() *shape {
	return object(
		required("version", scalar(g.version), "Its name, such as \"2\"."),
		key("status", scalar(oneOf(string(StatusActive), string(StatusDeprecated), string(StatusRetired))), "The stage of its life; default: active."),
		key("deprecated_at", scalar(g.date), "Since or from when it is deprecated."),
		key("sunset_at", scalar(g.date), "When it stops to be served."),
		key("successor", scalar(g.version), "The version that replaces it."),
		key("target", scalar(g.target), "Where requests go: <upstream>:<path>, topic:<name> or hub:<operation>."),
		key("methods", some(scalar(g.method), "method"), "The methods that are served."),
		key("timeout", scalar(g.duration), "How long a request may take."),
		key("max_body", scalar(g.size), "How large a request's body may be."),
		key("auth", scalar(g.auth), "How callers authenticate. none must be written."),
		key("permission", object(
			key("action", scalar(oneOf("call")), "The action; default: call."),
			required("resource", scalar(g.line), "The resource that access rules name."),
		), "What the caller must be allowed; default: every authenticated caller may."),
		key("params", list(object(
			required("name", scalar(g.line), "The parameter's name."),
			key("in", scalar(oneOf("query", "header", "path")), "Where it stands; default: query."),
			key("required", scalar(g.truth), "Whether it must be given; default: false."),
			key("pattern", literal(g.text), "A regular expression (RE2) for the whole value."),
			key("max_bytes", scalar(integer(1, 1<<20)), "How long the value may be."),
		), "param"), "The request's parameters."),
		key("body", object(
			key("schema", scalar(g.file), "A file with a JSON Schema."),
			key("consumes", some(scalar(g.format), "format"), "The formats that are accepted."),
		), "What the request's body must be."),
		key("response", object(
			key("unwrap", scalar(g.truth), "Parses XML that stands in a text node or CDATA section, once."),
			key("arrays", list(scalar(g.elementPath), "path"), "Elements that are arrays even if there is one."),
			key("strip", list(scalar(g.elementPath), "path"), "Elements or JSON pointers that are removed."),
			key("root", scalar(g.name), "The root element of XML made from JSON; default: the service's name."),
			key("namespaces", scalar(oneOf("keep", "drop")), "Whether XML namespaces are kept; default: drop."),
			key("schema", scalar(g.file), "A file with a JSON Schema of the response, for types of values."),
		), "What happens to the upstream's response."),
		key("limits", g.limits, "What one principal may ask."),
		key("produces", some(scalar(g.format), "format"), "The formats of responses."),
		key("format_param", scalar(g.truth), "Whether ?format=json or xml chooses the format; default: false."),
		key("verifier", scalar(g.name), "The webhook's sender."),
		key("key", scalar(g.keySource), "topic: where a message's key comes from: header:<name>."),
		key("carry_headers", list(scalar(g.headerName), "header"), "topic: headers that are stored with the message."),
		key("protect", g.protect, "How payloads are protected."),
	)
}

func protectShape(f *forms) *shape {
	passes := &form{pattern: f.pointer.pattern, expected: "a JSON pointer such as /name, or *", maxBytes: 1024}
	passes.pattern = matching(`\*|(?:/(?:[^~\x00-\x1f]|~[01])*)+`, "", 0).pattern
	return object(
		key("decrypt", scalar(f.name), "The key that requests are encrypted to."),
		key("verify", object(
			key("jws", scalar(f.truth), "Requests are signed as JWS."),
			required("trust", scalar(f.name), "Whose certificates sign them."),
		), "How signed requests are checked."),
		key("release", names(f.line, some(scalar(passes), "pointer"), "permission"), "By permission: what the caller may see."),
		key("encrypt", scalar(oneOf("recipient")), "recipient: encrypted to the recipient's certificate."),
	)
}

func (g *words) topic() *shape {
	perPrincipal := object(key("per_principal", scalar(integer(1, 1_000_000_000)), "How many subscriptions one principal may have."))
	return object(
		required("match", scalar(g.topicPattern), "A topic, or a pattern: a segment may be *, the last **."),
		key("publish", object(
			key("auth", scalar(g.auth), "How publishers authenticate."),
			key("body", object(
				required("schema", scalar(g.file), "A file with a JSON Schema."),
				key("enforce", scalar(g.truth), "false: what breaks the schema is reported but accepted; default: true."),
			), "What messages must be."),
			key("limits", object(key("rate", scalar(g.rate), "How many messages one principal may publish, such as 1000/1m.")), "What one principal may publish."),
		), "Checked before a message is stored."),
		key("subscribe", object(
			key("auth", scalar(g.auth), "How subscribers authenticate."),
			key("callback_hosts", some(scalar(g.hostPattern), "host"), "Hosts that callbacks may be at."),
			key("require_https", scalar(g.truth), "Whether callbacks must be https; default: false."),
			key("limits", perPrincipal, "What one principal may have."),
		), "Checked before a subscription is asked for."),
		key("deliver", object(
			key("headers", g.headers, "Headers that are added to deliveries."),
			key("strip", list(scalar(g.pointer), "pointer"), "What is removed from JSON bodies."),
			key("protect", object(
				key("encrypt", scalar(oneOf("recipient")), "recipient: encrypted to the subscriber's key."),
				key("trust", scalar(g.name), "Whose certificates the keys of subscribers must have."),
			), "How deliveries are protected."),
		), "What changes in deliveries."),
	)
}
