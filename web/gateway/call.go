package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/upstream"
	"quorumhub/web/problem"
)

// routeStage makes the request that the target gets.
type routeStage struct{}

func (routeStage) name() string              { return "route" }
func (routeStage) explain(v *version) string { return "to " + v.Target.String() }

func (routeStage) do(x *exchange) error {
	v := x.version
	if v.Target.Kind != registry.TargetUpstream {
		return nil
	}
	if v.pool == nil {
		return unavailable("the service behind this route cannot be called from this node; its operator finds the reason at /v1/gateway")
	}
	x.out.target = x.match.UpstreamPath(v.Target)
	if x.query != "" {
		x.out.target += "?" + x.query
	}
	x.out.length = x.r.ContentLength
	if x.body.isIn && x.body.there {
		x.out.length = int64(len(x.body.held))
	}
	return nil
}

// callStage has the target do the work.
type callStage struct{}

func (callStage) name() string { return "call" }
func (callStage) explain(v *version) string {
	switch v.Target.Kind {
	case registry.TargetTopic:
		return "publish to " + v.Target.Name + " and wait until the message is durable on a quorum"
	case registry.TargetHub:
		return "the hub's operation " + v.Target.Name
	case registry.TargetUpstream:
	}
	return fmt.Sprintf("the upstream %s, which must begin its answer within %v", v.Target.Name, v.patience)
}

func (callStage) do(x *exchange) error {
	begin := time.Now()
	defer func() { x.waited = time.Since(begin) }()
	switch x.version.Target.Kind {
	case registry.TargetTopic:
		return x.publish()
	case registry.TargetHub:
		return x.operate()
	case targetItself:
		text := x.version.document()
		x.resp = &response{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-cache"}},
			body: readerOf(text), length: int64(len(text)), final: true}
		return nil
	case registry.TargetUpstream:
	}
	return x.callUpstream()
}

// bodyTime is the least time that a client has to send a body.
const bodyTime = 30 * time.Second

// callUpstream calls the service.
func (x *exchange) callUpstream() error {
	v := x.version
	req := &upstream.Request{Method: x.r.Method, Target: x.out.target, Header: x.out.header, ContentLength: x.out.length, Timeout: v.patience,
		Informational: x.hint}
	var arrived *arriving
	switch {
	case !x.body.there:
		req.ContentLength = 0
		x.g.Bodies.Stream(x.w, x.r, time.Time{})() // nothing more will come
	case x.body.isIn:
		held := x.body.held
		req.Replayable = func() io.ReadCloser { return io.NopCloser(bytes.NewReader(held)) }
	default:
		arrived = &arriving{from: x.r.Body, left: v.MaxBody, ended: x.g.Bodies.Stream(x.w, x.r, time.Now().Add(max(v.Timeout, bodyTime)))}
		req.Body = arrived
		req.Early = func() { _ = http.NewResponseController(x.w).EnableFullDuplex() } // fails with HTTP/2, which needs no permission
		req.Interrupt = func() { _ = http.NewResponseController(x.w).SetReadDeadline(time.Now()) }
	}
	resp, err := v.pool.Call(x.ctx(), req)
	if err != nil {
		return x.upstreamFailed(arrived, err)
	}
	x.onEnd(func() { _ = resp.Body.Close() })
	return x.take(resp)
}

// hint passes on early hints (RFC 8297), of which only the links concern the caller.
func (x *exchange) hint(status int, header http.Header) {
	if links := header["Link"]; status == http.StatusEarlyHints && len(links) > 0 && x.r.ProtoAtLeast(1, 1) {
		h := x.w.Header()
		h["Link"] = links
		x.w.WriteHeader(status)
		delete(h, "Link") // the response has its own
	}
}

// upstreamFailed tells whose fault it is that there is no response.
func (x *exchange) upstreamFailed(arrived *arriving, err error) error {
	var late *upstream.Error
	switch {
	case arrived != nil && arrived.over.Load():
		return tooLarge(x.version.MaxBody)
	case x.ctx().Err() != nil:
		return x.ctx().Err() // the client is gone
	case errors.As(err, &late):
		x.g.Log.Warn("a service behind the gateway failed", slog.String("service", x.version.service.Name), slog.String("upstream", x.version.Target.Name),
			slog.Any("error", late), slog.String("correlation_id", x.correlation))
		return late.Problem()
	case arrived != nil && arrived.failed.Load():
		d := fault(http.StatusBadRequest, codeInvalid, "cannot be read to its end")
		d.Param = "body"
		return d
	}
	return err
}

// take makes the upstream's response that of the exchange. Of its failures the caller learns that they happened.
func (x *exchange) take(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusProxyAuthRequired:
		// Credentials of callers never reach the service, so these are the gateway's.
		x.note(errUpstreamCaller, resp.StatusCode)
		return upstreamProblem(errUpstreamCaller.Error())
	case resp.StatusCode >= 500:
		x.note(errUpstreamStatus, resp.StatusCode)
		d := upstreamProblem(errUpstreamStatus.Error())
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 && seconds <= 3600 {
			d.RetryAfter = time.Duration(seconds) * time.Second
		}
		return d
	}
	h := resp.Header
	for name := range h {
		if isCORS(name) || isOfTheGateway(name) {
			delete(h, name)
		}
	}
	if err := x.relocate(h); err != nil {
		return err
	}
	x.resp = &response{status: resp.StatusCode, header: h, body: resp.Body, length: resp.ContentLength}
	if x.r.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		x.resp.body, x.resp.length = nil, -1
	}
	return nil
}

// note logs what the caller is not told about the service.
func (x *exchange) note(err error, status int) {
	x.g.Log.Warn("a service behind the gateway failed", slog.String("service", x.version.service.Name), slog.String("upstream", x.version.Target.Name),
		slog.String("error", err.Error()), slog.Int("upstream_status", status), slog.String("correlation_id", x.correlation))
}

// publish puts the request's body into a topic, byte for byte.
func (x *exchange) publish() error {
	v := x.version
	if most := x.g.Publisher.MaxBytes(); x.r.ContentLength > most {
		return tooLarge(min(most, v.MaxBody))
	}
	if err := x.hold(); err != nil {
		return err
	}
	p := Publication{ContentType: "application/octet-stream", Body: x.body.held, Granted: v.verifier != nil}
	switch given := x.r.Header["Content-Type"]; {
	case x.body.kind != "":
		p.ContentType = x.body.kind
	case len(given) > 1:
		return multiple("Content-Type", len(given))
	case len(given) == 1 && given[0] != "":
		p.ContentType = given[0]
	}
	if v.verifier != nil {
		p.IdempotencyKey = cmp.Or(x.delivery.ID, x.delivery.Claim)
	} else if given := x.r.Header["Idempotency-Key"]; len(given) == 1 {
		p.IdempotencyKey = given[0]
	} else if len(given) > 1 {
		return multiple("Idempotency-Key", len(given))
	}
	if err := x.carry(&p); err != nil {
		return err
	}
	id, duplicate, err := x.g.Publisher.Publish(x.w, x.r, v.Target.Name, p)
	if err != nil {
		return err
	}
	h := http.Header{"X-Hub-Message-Id": {id}}
	if duplicate {
		h["Idempotency-Replayed"] = []string{"true"}
	}
	x.resp = &response{status: http.StatusAccepted, header: h, final: true}
	return nil
}

// keyHeader is the header of a message by which subscribers order it, see hub.delivery_key.
const keyHeader = "X-Hub-Key"

// carry adds the headers that are kept with the message.
func (x *exchange) carry(p *Publication) error {
	v := x.version
	for _, name := range v.CarryHeaders {
		switch given := x.r.Header.Values(name); {
		case len(given) > 1:
			return multiple(name, len(given))
		case len(given) == 1:
			p.Headers = append(p.Headers, Header{http.CanonicalHeaderKey(name), headerValue(given[0]), true})
		}
	}
	if v.keyHeader == "" {
		return nil
	}
	switch given := x.r.Header.Values(v.keyHeader); {
	case len(given) > 1:
		return multiple(v.keyHeader, len(given))
	case len(given) == 1:
		p.Headers = append(p.Headers, Header{keyHeader, given[0], false})
	}
	return nil
}

// operate runs an operation of the hub.
func (x *exchange) operate() error {
	run, ok := x.g.Operations.Operation(x.version.Target.Name)
	if !ok {
		return unavailable("this node does not know the operation of this route")
	}
	rec := newRecorder(x.w.Header(), x.version.MaxBody+maxOperationBytes)
	run(x.w, rec, x.r, x.match.UpstreamPath(registry.Target{}))
	x.resp = rec.response()
	if x.resp.status >= 400 {
		x.resp.final = true // a problem document already
	}
	return nil
}

// maxOperationBytes bounds the answer of an operation of the hub.
const maxOperationBytes = 4 << 20

// arriving is a body that is passed on as it arrives.
type arriving struct {
	from   io.Reader
	left   int64
	ended  func()
	over   atomic.Bool // it is longer than allowed
	failed atomic.Bool // the client did not send all of it
}

func (a *arriving) Read(p []byte) (int, error) {
	if int64(len(p)) > a.left+1 {
		p = p[:a.left+1]
	}
	n, err := a.from.Read(p)
	if a.left -= int64(n); a.left < 0 {
		a.over.Store(true)
		return 0, errTooLong
	}
	switch {
	case err == io.EOF: // not errors.Is: a wrapped EOF would be a failure
		a.ended()
	case err != nil:
		a.failed.Store(true)
	}
	return n, err
}

var errTooLong = &problem.Details{Status: http.StatusRequestEntityTooLarge, Code: codeTooLarge, Param: "body", Detail: "is longer than this route accepts"}
