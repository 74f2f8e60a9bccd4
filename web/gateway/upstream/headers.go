package upstream

import (
	"net/http"
	"slices"
	"strings"
)

// isHopByHop reports whether a field concerns one connection (RFC 9110 section 7.6.1), or is Expect, which net/http answers itself.
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// CleanRequest removes what must not go on to a service from the header of a client's request: hop-by-hop fields, those
// that Connection names, and fields with an underscore in their names, which many services cannot tell from the ones with a
// hyphen that the gateway vouches for. Call it before anything is added: Connection could name the gateway's own fields.
func CleanRequest(h http.Header) {
	removeNamed(h)
	for name := range h {
		if isHopByHop(name) || strings.Contains(name, "_") {
			delete(h, name)
		}
	}
}

// CleanResponse removes what must not go on to a client: hop-by-hop fields, those that Connection names, and Alt-Svc, which
// names a way past the gateway. Pool.Call has done so with what it returns.
func CleanResponse(h http.Header) {
	removeNamed(h)
	for name := range h {
		if name == "Alt-Svc" || isHopByHop(name) {
			delete(h, name)
		}
	}
}

// removeHopByHop removes the fields that concern one connection, and those that Connection names.
func removeHopByHop(h http.Header) {
	removeNamed(h)
	for name := range h {
		if isHopByHop(name) {
			delete(h, name)
		}
	}
}

// removeNamed removes the fields that Connection names.
func removeNamed(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
}

// Upgrade returns the protocol that a request asks to change to, such as websocket, or "" if it asks for none. The gateway
// makes no such change; asking for HTTP/2 without TLS (h2c) is as good as not asking, since the answer may be HTTP/1.1.
// Requests of HTTP/2 ask with the method CONNECT.
func Upgrade(r *http.Request) string {
	if r.Method == http.MethodConnect {
		if protocol := r.Header.Get(":protocol"); protocol != "" {
			return protocol
		}
		return "tunnel"
	}
	asked := slices.ContainsFunc(r.Header["Connection"], func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "upgrade") })
	})
	if !asked {
		return ""
	}
	for _, line := range r.Header["Upgrade"] {
		for protocol := range strings.SplitSeq(line, ",") {
			if protocol = strings.TrimSpace(protocol); protocol != "" && !strings.EqualFold(protocol, "h2c") {
				return protocol
			}
		}
	}
	return ""
}
