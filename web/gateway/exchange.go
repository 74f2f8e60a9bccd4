package gateway

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"time"

	"quorumhub/web/gateway/negotiate"
	"quorumhub/web/gateway/protect"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/webhook"
	"quorumhub/web/problem"
)

// exchange is one request on its way through the stages, and its response.
type exchange struct {
	g     *Gateway
	at    *compiled // the registry that the request began with
	w     http.ResponseWriter
	r     *http.Request
	start time.Time

	correlation string
	trace       trace

	version *version
	match   registry.Match
	alias   *registry.Alias // by which the request came; nil: by the service's own URI
	unknown bool            // the version that the request names does not exist
	// choice is why no version could be chosen, or why its answer is no call; it is told to callers who have proven who they are.
	choice *problem.Details
	move   string // where an alias redirects to

	caller   Caller
	delivery webhook.Delivery // of a verified webhook

	query string // of the request, without credentials
	body  body
	want  negotiate.Choice // of the response's format
	wants bool             // want says something

	signer    *x509.Certificate  // of the payload; nil: it was not signed
	recipient *protect.Recipient // of the response; nil: it is not encrypted
	released  []string           // the permissions by which something of the response is released; nil: all of it is
	pointers  []string           // what they release

	out      outgoing
	resp     *response
	doc      *document // of the response, once it has been looked into
	native   string    // its media type, as the service sent it
	stripped bool      // doc is without what the caller never gets

	failed  error            // what ended the stages early
	problem *problem.Details // what the caller was told of it
	status  int              // of the response, once it has begun
	sent    int64            // bytes of its body
	cut     bool             // it ended before its end
	waited  time.Duration    // for the service behind

	dry      bool // nothing is called, claimed or counted
	releases []func()
}

// body is the body of a request.
type body struct {
	held  []byte
	isIn  bool   // held is all of it
	there bool   // there is one
	kind  string // content type of what was inside; empty: the request's own
}

// outgoing is the request to an upstream.
type outgoing struct {
	header http.Header
	target string // path and query
	length int64
}

// response is what the caller will get.
type response struct {
	status int
	header http.Header
	body   io.ReadCloser // nil: none
	length int64         // -1: unknown
	// final: it is no answer of the target, so no stage changes it.
	final bool
}

// onEnd registers what gives back something that the exchange holds.
func (x *exchange) onEnd(f func()) { x.releases = append(x.releases, f) }

// end gives back everything, the latest first.
func (x *exchange) end() {
	for i := len(x.releases) - 1; i >= 0; i-- {
		x.releases[i]()
	}
	x.releases = nil
}

func (x *exchange) ctx() context.Context { return x.r.Context() }

// hold reads the request's body into memory.
func (x *exchange) hold() error {
	if x.body.isIn || !x.body.there {
		x.body.isIn = true
		return nil
	}
	if err := checkEncoding(x.r.Header); err != nil {
		return err
	}
	held, release, err := x.g.Bodies.Hold(x.w, x.r, x.version.MaxBody)
	x.onEnd(release)
	if err != nil {
		return err
	}
	x.body.held, x.body.isIn = held, true
	return nil
}

// holdResponse reads the body of the response into memory, of at most limit bytes.
func (x *exchange) holdResponse(limit int64) ([]byte, error) {
	resp := x.resp
	if resp.body == nil {
		return nil, nil
	}
	defer resp.body.Close()
	if resp.length > limit {
		return nil, errResponseTooLarge
	}
	var held int64
	x.onEnd(func() { x.g.Bodies.Give(x.w, held) })
	text := []byte(nil)
	for {
		if len(text) == cap(text) {
			size := min(max(firstPiece, growth*int64(cap(text))), limit+1)
			if resp.length >= 0 {
				size = resp.length + 1 // and the end
			}
			if int64(len(text)) == size {
				return nil, errResponseTooLarge
			}
			if err := x.g.Bodies.Take(x.w, size-held); err != nil {
				return nil, err
			}
			held = size
			text = append(make([]byte, 0, size), text...)
		}
		n, err := resp.body.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case err == io.EOF && int64(len(text)) <= limit: // not errors.Is: a wrapped EOF would be a failure
			resp.body = nil
			return text, nil
		case err == io.EOF:
			return nil, errResponseTooLarge
		case err != nil:
			return nil, err
		}
	}
}

// A response of unknown length is reserved piece by piece.
const (
	firstPiece = 16 << 10
	growth     = 4
)
