package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/webhook"
	"quorumhub/web/problem"
)

// authenticateStage finds out who calls.
type authenticateStage struct{}

func (authenticateStage) name() string { return "authenticate" }
func (authenticateStage) explain(v *version) string {
	switch {
	case v.unusable != nil:
		return v.Auth + ", which this node lacks: " + v.unusable.Error()
	case v.Auth == registry.AuthNone:
		return "none: nobody has to prove anything"
	case !v.way.Required():
		return v.Auth + ": this hub asks nobody for credentials"
	case v.sequence:
		return "sequence " + v.Auth
	}
	return v.Auth
}

func (authenticateStage) do(x *exchange) error {
	v := x.version
	if v.unusable != nil {
		return unavailable("callers cannot be authenticated at this node: its settings lack what this route asks for")
	}
	r, caller, err := v.way.Authenticate(x.w, x.r, v.MaxBody)
	if err != nil {
		return err
	}
	x.r, x.caller = r, caller
	if caller.Anonymous && v.way.Required() {
		if at := v.way.LogIn(x.w, x.r); at != "" && !x.dry {
			x.resp = &response{status: http.StatusSeeOther, header: http.Header{"Location": {at}, "Cache-Control": {"no-store"}}, final: true}
			return nil
		}
		d := fault(http.StatusUnauthorized, codeUnauthenticated, "this route requires credentials")
		d.Challenges = v.way.Challenges()
		return d
	}
	return nil
}

// senderStage checks that a webhook comes from its sender.
type senderStage struct{}

func (senderStage) name() string { return "sender" }
func (senderStage) explain(v *version) string {
	if v.verifier == nil {
		return ""
	}
	return fmt.Sprintf("the signature of %s (%s) over the body", v.Verifier, v.scheme)
}

func (senderStage) do(x *exchange) error {
	v := x.version
	if v.verifier == nil || x.decided() || x.move != "" {
		return nil
	}
	if err := x.hold(); err != nil {
		return err
	}
	delivery, err := v.verifier.Verify(x.r.Header, x.body.held, x.g.Clock())
	if err != nil {
		x.g.refused(x, err)
		var refusal *webhook.RefusalError
		if errors.As(err, &refusal) {
			return refusal.Problem()
		}
		return err
	}
	x.delivery = delivery
	if x.caller.Anonymous {
		x.r, x.caller = x.g.Callers.Sender(x.w, x.r, v.Verifier)
	}
	if v.scheme != webhook.SchemeSlack {
		return nil
	}
	if answer, ok := webhook.Challenge(x.body.held); ok {
		x.resp = &response{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: readerOf(answer), length: int64(len(answer)), final: true}
	}
	return nil
}

// authorizeStage decides whether the caller may.
type authorizeStage struct{}

func (authorizeStage) name() string { return "authorize" }
func (authorizeStage) explain(v *version) string {
	if v.Permission == nil {
		return "every caller that got here may"
	}
	return v.Permission.Action + " on " + v.Permission.Resource
}

func (authorizeStage) do(x *exchange) error {
	if x.unknown {
		if x.caller.Anonymous {
			return unknownRoute()
		}
		return x.choice
	}
	if err := x.permitted(); err != nil {
		return err
	}
	switch {
	case x.choice != nil:
		return x.choice
	case x.move != "":
		h := http.Header{"Location": {x.move}}
		if x.r.URL.RawQuery != "" {
			h["Location"][0] += "?" + x.r.URL.RawQuery
		}
		x.resp = &response{status: x.alias.Status, header: h, final: true}
	}
	return nil
}

// permitted asks whether the caller may; of a dry run nothing is audited.
func (x *exchange) permitted() error {
	p := x.version.Permission
	switch {
	case p == nil:
		return nil
	case !x.dry:
		return x.g.Callers.Allowed(x.ctx(), p.Action, p.Resource)
	case !x.g.Callers.Holds(x.ctx(), p.Action, p.Resource):
		return fault(http.StatusForbidden, codeForbidden, "%s on %s is not allowed", p.Action, p.Resource)
	}
	return nil
}

// replayStage makes sure that what is for one use is used once, on all nodes.
type replayStage struct{}

func (replayStage) name() string { return "replay" }
func (replayStage) explain(v *version) string {
	switch {
	case v.verifier != nil && v.Target.Kind == registry.TargetTopic:
		return "the delivery's ID is the idempotency key"
	case v.verifier != nil:
		return "the delivery's ID is claimed on all nodes"
	}
	return "a signed request's nonce is claimed on all nodes"
}

// deliveryMemory is how long a webhook is remembered that does not say how old it is.
const deliveryMemory = time.Hour

func (replayStage) do(x *exchange) error {
	if x.dry {
		return nil
	}
	if x.caller.Settle != nil {
		if err := x.caller.Settle(x.ctx()); err != nil {
			return x.replayed(err)
		}
	}
	v := x.version
	if v.verifier == nil || v.Target.Kind == registry.TargetTopic {
		return nil
	}
	until := x.delivery.ClaimUntil
	if until.IsZero() {
		until = x.g.Clock().Add(deliveryMemory)
	}
	fresh, err := x.g.Nonces.Claim(x.ctx(), "webhook/"+v.Verifier, x.deliveryNonce(), until)
	switch {
	case err != nil:
		return unavailable("whether this delivery came before cannot be checked now; try again shortly")
	case !fresh:
		return fault(http.StatusUnauthorized, codeReplayed, "this delivery was received before")
	}
	return nil
}

// replayed tells a used nonce from what else can go wrong with one.
func (x *exchange) replayed(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	d := x.g.describe(err)
	if d == nil || d.Status != http.StatusUnauthorized {
		return err
	}
	out := *d
	out.Code, out.Detail = codeReplayed, "this request was received before, and its credentials are for one use"
	return &out
}

// deliveryNonce identifies a webhook by what its signature covers, the time included: a sender that tries again signs a new one.
func (x *exchange) deliveryNonce() [32]byte {
	return sha256.Sum256([]byte(x.version.Verifier + "\x00" + x.delivery.Claim + "\x00" + strconv.FormatInt(x.delivery.SentAt.UnixNano(), 10)))
}

// withoutGeo removes the parameters of GEO-Auth from a query, and leaves the rest byte for byte. Some callers encode the query as a
// whole, separators included; theirs is taken apart first, as it was to check its signature.
func withoutGeo(raw string) string {
	if !strings.Contains(strings.ToLower(raw), "geo") {
		return raw
	}
	if !strings.Contains(raw, "&") {
		if whole, ok := unescapedWhole(raw); ok {
			raw = whole
		}
	}
	pieces := strings.Split(raw, "&")
	kept := pieces[:0]
	for _, piece := range pieces {
		name, _, _ := strings.Cut(piece, "=")
		if !isGeoName(name) {
			kept = append(kept, piece)
		}
	}
	return strings.Join(kept, "&")
}

func multiple(param string, n int) *problem.Details {
	d := fault(http.StatusBadRequest, codeInvalid, "is given %d times; expected once", n)
	d.Param = param
	return d
}

// refused logs why a webhook was refused, which its sender never learns.
func (g *Gateway) refused(x *exchange, err error) {
	g.Log.Warn("webhook refused", slog.String("verifier", x.version.Verifier), slog.String("reason", err.Error()),
		slog.String("address", x.caller.Address), slog.String("correlation_id", x.correlation))
}
