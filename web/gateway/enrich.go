package gateway

import (
	"net/http"
	"slices"
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

// isCredential reports whether a field proves who calls; cookies may.
func isCredential(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Cookie2", "X-Api-Key", "Geo-Auth", "Signature", "Signature-Input", "Client-Cert",
		"Client-Cert-Chain", "X-Ssl-Client-Cert", "Dpop":
		return true
	}
	return false
}

// isSaid reports whether only the gateway says a field.
func isSaid(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
		correlationHeader, traceParent, traceState, versionHeader, "Host":
		return true
	}
	return slices.ContainsFunc(saidPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// saidPrefixes begin the names of further such fields.
var saidPrefixes = []string{"X-Gateway-", "X-Principal-", "X-Geo-", "Geo-", "X-Forwarded-"}

func (enrichStage) do(x *exchange) error {
	h := x.clientHeader()
	values := make([]string, 0, maxAdded)
	set := func(name, value string) {
		if value = headerValue(value); value != "" {
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
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
	h["Via"] = append(slices.Clip(h["Via"]), viaHere) // RFC 9110 section 7.6.3
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

// maxAdded is the number of fields that the gateway adds; a few more would only cost an allocation.
const maxAdded = 12

// clientHeader returns the client's fields that the service may get. It shares their values with the request, so they are replaced and
// never changed.
func (x *exchange) clientHeader() http.Header {
	from := x.r.Header
	h := make(http.Header, len(from)+maxAdded)
	for name, values := range from {
		if !isCredential(name) && !isSaid(name) {
			h[name] = values
		}
	}
	upstream.CleanRequest(h)
	return h
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
