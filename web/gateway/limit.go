package gateway

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"quorumhub/web/gateway/upstream"
	"quorumhub/web/problem"
)

const (
	maxURIBytes = 8 << 10 // of path and query
	// maxPasses is how often a request may have passed through a gateway: hubs may stand behind each other, but a registry that
	// leads back to the hub, by way of another node or a load balancer, would go round without end.
	maxPasses = 3
	viaHere   = "1.1 quorumhub"
)

// limitStage refuses what no route accepts, before anything else is looked at.
type limitStage struct{}

func (limitStage) name() string { return "limits" }
func (limitStage) explain(v *version) string {
	return fmt.Sprintf("the URL has at most %d bytes, the body at most %d; no protocol is changed; it has passed through fewer than %d gateways", maxURIBytes, v.MaxBody, maxPasses)
}

func (limitStage) do(x *exchange) error {
	if n := len(x.r.URL.RawQuery) + len(x.r.URL.EscapedPath()); n > maxURIBytes {
		return fault(http.StatusRequestURITooLong, codeURITooLong, "the path and query have %d bytes; at most %d are accepted", n, maxURIBytes)
	}
	if protocol := upstream.Upgrade(x.r); protocol != "" {
		return fault(http.StatusNotImplemented, codeUnsupported, "asks to change the protocol to %s; the gateway passes on requests and responses only", problem.Quote(protocol))
	}
	passes := 0
	for _, via := range x.r.Header["Via"] {
		passes += strings.Count(via, viaHere)
	}
	if passes >= maxPasses {
		return fault(http.StatusLoopDetected, codeLoop, "has passed through a gateway %d times; the service behind this route leads back to it", passes)
	}
	x.body.there = x.r.ContentLength != 0
	return nil
}

// correlateStage gives the request a name that logs of all services can share.
type correlateStage struct{}

func (correlateStage) name() string { return "correlation" }
func (correlateStage) explain(*version) string {
	return correlationHeader + " is kept if it matches ^[A-Za-z0-9._-]{1,64}$, and otherwise made; so is traceparent"
}

const (
	correlationHeader = "X-Correlation-Id"
	traceParent       = "Traceparent"
	traceState        = "Tracestate"
)

// trace is the context of a distributed trace (W3C Trace Context).
type trace struct {
	parent string
	state  []string
}

func (correlateStage) do(x *exchange) error {
	// Whoever serves HTTP has given the response its ID, which problems and logs outside the gateway show, too.
	if x.correlation == "" {
		x.correlation = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, rand.Uint64()))
		x.w.Header().Set(correlationHeader, x.correlation)
	}
	x.trace = traceOf(x.r.Header)
	return nil
}

// traceOf returns the trace that a request belongs to, or begins one. A state without a valid parent is dropped (section 3.3.1.4).
func traceOf(h http.Header) trace {
	if given := h[traceParent]; len(given) == 1 && validTraceParent(given[0]) {
		return trace{given[0], h[traceState]}
	}
	var ids [24]byte
	for i := 0; i < len(ids); i += 8 {
		binary.BigEndian.PutUint64(ids[i:], rand.Uint64())
	}
	text := append(make([]byte, 0, 55), "00-"...)
	text = append(hex.AppendEncode(text, ids[:16]), '-')
	return trace{parent: string(append(hex.AppendEncode(text, ids[16:]), "-00"...))}
}

// validTraceParent checks version, IDs and flags (section 3.2). Later versions may be longer.
func validTraceParent(s string) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || len(s) > 55 && (s[:2] == "00" || s[55] != '-' || len(s) > 128) {
		return false
	}
	for _, part := range [...]string{s[:2], s[3:35], s[36:52], s[53:55]} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	for i := 55; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}
