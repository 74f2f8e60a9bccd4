package gateway

import (
	"strings"

	"quorumhub/web/gateway/upstream"
)

// enrichStage makes the header that the service behind gets: the client's without its credentials and without anything that only the
// gateway may say, and then what the gateway says.
type enrichStage struct{}

func (enrichStage) name() string { return "enrich" }
func (enrichStage) explain(*version) string {
	return "credentials, hop-by-hop fields and the client's copies of X-Gateway-*, X-Principal-*, X-Geo-* and X-Forwarded-* are removed; the gateway's are added"
}

// credentials are the fields that prove who calls, and cookies.
var credentials = []string{"Authorization", "Cookie", "Cookie2", "X-Api-Key", "Geo-Auth", "Signature", "Signature-Input", "Client-Cert",
	"Client-Cert-Chain", "X-Ssl-Client-Cert", "Dpop"}

// said are the fields that only the gateway says.
var said = []string{"Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
	correlationHeader, traceParent, traceState, versionHeader, "Host"}

// saidPrefixes begin the names of further such fields.
var saidPrefixes = []string{"X-Gateway-", "X-Principal-", "X-Geo-", "Geo-", "X-Forwarded-"}

func (enrichStage) do(x *exchange) error {
	h := x.r.Header.Clone()
	upstream.CleanRequest(h)
	for _, name := range credentials {
		delete(h, name)
	}
	for _, name := range said {
		delete(h, name)
	}
	for name := range h {
		for _, prefix := range saidPrefixes {
			if strings.HasPrefix(name, prefix) {
				delete(h, name)
			}
		}
	}
	set := func(name, value string) {
		if value = headerValue(value); value != "" {
			h[name] = []string{value}
		}
	}
	if x.body.kind != "" {
		h["Content-Type"] = []string{x.body.kind}
		for _, name := range []string{"Content-Digest", "Repr-Digest", "Digest", "Content-Md5"} {
			delete(h, name) // of what was sent, which was opened
		}
	}
	v := x.version
	set(correlationHeader, x.correlation)
	set(traceParent, x.trace.parent)
	if len(x.trace.state) > 0 {
		h[traceState] = x.trace.state
	}
	set("X-Forwarded-For", x.caller.Address)
	set("X-Forwarded-Host", x.r.Host)
	set("X-Forwarded-Proto", x.caller.Scheme)
	h["Via"] = append(h["Via"], viaHere) // RFC 9110 section 7.6.3
	set("X-Gateway-Service", v.service.Name)
	set("X-Gateway-Version", v.Version.Version)
	if !x.caller.Anonymous {
		set("X-Principal-Subject", x.caller.Subject)
		set("X-Principal-Issuer", x.caller.Issuer)
	}
	if geo := x.caller.Geo; geo != nil {
		set("X-Geo-Username", geo.Username)
		set("X-Geo-Source-System", geo.SourceSystem)
		set("X-Geo-Target-System", geo.TargetSystem)
	}
	if x.readsResponse() {
		// What is compressed cannot be converted, and what is partial is no document.
		for _, name := range []string{"Accept-Encoding", "Range", "If-Range"} {
			delete(h, name)
		}
		h["Accept-Encoding"] = []string{"identity"}
		delete(h, "Accept") // the service sends what it has, and the gateway converts it
	}
	x.out.header = h
	return nil
}

// headerValue removes what would break a header. Subjects are text that an issuer chose.
func headerValue(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, s))
}
