package keyring

import (
	"context"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	reencryptBatch   = 256
	reencryptFailing = 20 // failures that are named
)

// Reencrypted is the progress of re-encryption.
type Reencrypted struct {
	Sealed  int      `json:"resealed"` // by this call
	Left    int      `json:"left"`     // sealed with a key other than the sealing key
	Failing []string `json:"failing"`  // secrets that cannot be opened, and why; the first 20
}

// Reencrypt re-encrypts secrets with the sealing key, in batches, until none is left that can be opened or limit has passed. A
// secret that is replaced meanwhile stays as replaced. It may be interrupted and repeated at any time.
func (k *Keeper) Reencrypt(ctx context.Context, limit time.Duration) (Reencrypted, error) {
	out := Reencrypted{Failing: []string{}}
	agreed := k.agreed()
	if agreed.Sealing == "" || !k.o.Keys.Ring().Opens(agreed.Sealing) {
		return out, hub.Errorf(hub.CodeUnavailable, "this node does not hold the sealing key; see quorumhub keys status")
	}
	k.o.Keys.Ring().prefer(agreed.Sealing)
	var sub hub.SubscriptionID
	var req hub.RequestID
	for end := time.Now().Add(limit); time.Now().Before(end); {
		var list []hub.SealedSecret
		k.o.State.View(func(s *hub.State) { list = s.SecretsNotSealedWith(agreed.Sealing, sub, req, reencryptBatch) })
		if len(list) == 0 {
			break
		}
		ev := &hubpb.SecretsReencrypted{}
		for i := range list {
			old := &list[i]
			sub, req = max(sub, old.Subscription), max(req, old.Request)
			sealed, err := k.reencrypt(old)
			if err != nil {
				if len(out.Failing) < reencryptFailing {
					out.Failing = append(out.Failing, ownerOf(old)+": "+err.Error())
				}
				continue
			}
			ev.Items = append(ev.Items, &hubpb.SecretsReencrypted_Item{Subscription: uint64(old.Subscription), Request: uint64(old.Request), Callback: old.Callback, Gateway: old.Gateway, Was: old.Sealed, Sealed: sealed})
		}
		if len(ev.Items) == 0 {
			continue
		}
		if _, err := k.o.Proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SecretsReencrypted{SecretsReencrypted: ev}}); err != nil {
			return out, err
		}
		out.Sealed += len(ev.Items)
	}
	for id, c := range k.counts() {
		if id != agreed.Sealing {
			out.Left += c.Total()
		}
	}
	return out, nil
}

func (k *Keeper) reencrypt(old *hub.SealedSecret) ([]byte, error) {
	secret, err := k.o.Keys.Ring().Open(old.Sealed, old.Binding)
	if err != nil {
		return nil, err
	}
	return k.o.Keys.Ring().Seal(secret, old.Binding)
}

func ownerOf(s *hub.SealedSecret) string {
	if s.Gateway {
		return "the gateway's registry"
	}
	if s.Callback != "" {
		return "callback " + s.Callback
	}
	if s.Subscription == 0 {
		return s.Request.String()
	}
	return s.Subscription.String()
}
