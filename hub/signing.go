package hub

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// SchemeStandardWebhooks is the signature scheme that adds the headers of Standard Webhooks to X-Hub-Signature.
const SchemeStandardWebhooks = "standard-webhooks"

const (
	webhookSecretPrefix = "whsec_"
	// maxFormerSecrets bounds the secrets that sign beside the current one. It is part of the fold.
	maxFormerSecrets = 3
)

// FormerSecret is a secret that a renewal replaced and that keeps signing until Until.
type FormerSecret struct {
	Sealed []byte
	Until  time.Time
}

// WebhookKey returns the Standard Webhooks key for a secret: what follows whsec_, decoded from base64, or else the
// secret itself. (The key of X-Hub-Signature is always the secret itself, see WebSub 7.1.)
func WebhookKey(secret []byte) []byte {
	if encoded, ok := strings.CutPrefix(string(secret), webhookSecretPrefix); ok {
		if key, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return key
		}
	}
	return secret
}

// chooseScheme reads hub.signature_scheme, an extension: standard-webhooks adds its three headers to X-Hub-Signature.
func (r *SubscribeRequest) chooseScheme(form url.Values) (err error) {
	const param = "hub.signature_scheme"
	scheme, err := single(form, param)
	switch {
	case err != nil || scheme == "" || scheme == "websub":
		return err
	case scheme != SchemeStandardWebhooks:
		return ParamErrorf(param, "is %s; expected websub or %s", quote(scheme), SchemeStandardWebhooks)
	case r.Secret == nil:
		return ParamErrorf(param, "is %s, which requires hub.secret", scheme)
	}
	if encoded, ok := strings.CutPrefix(string(r.Secret), webhookSecretPrefix); ok {
		if key, err := base64.StdEncoding.DecodeString(encoded); err != nil || len(key) < 24 || len(key) > 64 {
			return ParamErrorf("hub.secret", "begins with %s but does not continue with 24 to 64 bytes in base64, as %s requires", webhookSecretPrefix, scheme)
		}
	}
	r.Scheme = scheme
	return nil
}

// formerSecrets returns the secrets that keep signing after a renewal: the one it replaces, for the hub's grace
// period, and those replaced earlier whose period has not ended.
func formerSecrets(sub *Subscription, r *Request, from time.Time) []FormerSecret {
	if r.Scheme == "" || sub.Scheme == "" || len(r.SealedSecret) == 0 || len(sub.SealedSecret) == 0 || r.SecretGrace <= 0 {
		return nil
	}
	out := []FormerSecret{{sub.SealedSecret, from.Add(time.Duration(min(r.SecretGrace, 1e9)) * time.Second)}}
	for _, f := range sub.Former {
		if f.Until.After(from) && len(out) < maxFormerSecrets {
			out = append(out, f)
		}
	}
	return out
}

func formerPB(list []FormerSecret) (out []*hubpb.FormerSecret) {
	for _, f := range list {
		out = append(out, &hubpb.FormerSecret{Sealed: f.Sealed, Until: nanos(f.Until)})
	}
	return out
}

func formerFromPB(rows []*hubpb.FormerSecret) (out []FormerSecret) {
	for _, r := range rows {
		out = append(out, FormerSecret{r.Sealed, timeOf(r.Until)})
	}
	return out
}

// SignatureMethod returns the method of X-Hub-Signature: the operator's choice, or else the subscriber's; empty: the
// hub's default.
func (s *Subscription) SignatureMethod() string { return cmp.Or(s.OperatorSignature, s.Signature) }

// SetSignature sets the method of X-Hub-Signature for a subscription whose software knows only one, in place of what the
// subscriber asked for; empty: no longer. An unknown subscription is CodeNotFound.
func (s *Service) SetSignature(ctx context.Context, id SubscriptionID, method string) error {
	method, err := ParseSignatureMethod("method", method)
	if err != nil {
		return err
	}
	return s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionSignatureSet{
		SubscriptionSignatureSet: &hubpb.SubscriptionSignatureSet{Subscription: uint64(id), Method: method}}})
}

// setSignature sets the operator's choice of a signature method, which renewals keep.
func (s *State) setSignature(e *hubpb.SubscriptionSignatureSet, fx *Effects) Result {
	sub := s.subs[SubscriptionID(e.Subscription)]
	if sub == nil {
		return Result{Outcome: OutcomeStale}
	}
	sub.OperatorSignature = e.Method
	s.touch(TableSubscription, e.Subscription)
	fx.Subscriptions = append(fx.Subscriptions, s.view(sub))
	return Result{ID: e.Subscription}
}
