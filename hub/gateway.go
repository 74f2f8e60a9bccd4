package hub

import (
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// The gateway's registry is a document of up to MaxGatewayBytes. It is stored like the body of a large message, in parts;
// the event that makes it the present one names them, so that all nodes change over at the same place of the log.

// GatewayInfo describes the gateway's present registry.
type GatewayInfo struct {
	Hash      string // of the document, in hex: it changes with every change of text, files and secrets
	Index     uint64 // of the log entry that applied it
	AppliedAt time.Time
	By        string // who applied it, for people

	row *hubpb.GatewayRow
}

// Gateway returns the present registry; ok is false if none has been applied.
func (s *State) Gateway() (_ GatewayInfo, ok bool) {
	r := s.gateway
	if r == nil {
		return GatewayInfo{}, false
	}
	a := r.GetApplied()
	return GatewayInfo{Hash: a.GetHash(), Index: r.GetIndex(), AppliedAt: timeOf(r.GetAppliedAt()), By: a.GetBy(), row: r}, true
}

// applyGateway replaces the registry, unless it is another one than the event expects. The parts of the former one are
// released. Rows are immutable, since readers keep them.
func (s *State) applyGateway(e *hubpb.GatewayApplied, fx *Effects) Result {
	present := s.gateway.GetApplied().GetHash()
	if s.retiredKey(e.Sealed) {
		return Result{Outcome: OutcomeKeyRetired} // the blob stays for the next try
	}
	defer s.dropBlob(e.Blob, fx)
	switch {
	case e.Hash == present && present != "":
		return Result{Outcome: OutcomeDuplicate, ID: s.gateway.GetIndex()}
	case e.Replaces != nil && e.GetReplaces() != present:
		return Result{Outcome: OutcomeStale}
	}
	var m Message
	if !s.takeBlob(e.Blob, e.Parts, e.Size, &m) {
		return Result{Outcome: OutcomeNotFound}
	}
	fx.PartsReleased = fx.PartsReleased || s.gateway != nil
	s.gateway = &hubpb.GatewayRow{Applied: e, Parts: m.Parts, AppliedAt: s.meta.Now, Index: s.at}
	s.releaseParts(fx)
	s.touch(TableGateway, 0)
	fx.GatewayChanged = true
	return Result{ID: s.at}
}

// GatewayBinding is SecretBinding for the secrets of the gateway's registry.
func GatewayBinding() string { return "gateway" }

// gatewaySecrets returns the registry's secrets unless they are sealed with the given key.
func (s *State) gatewaySecrets(key string) []SealedSecret {
	sealed := s.gateway.GetApplied().GetSealed()
	if len(sealed) == 0 || SealedWith(sealed) == key {
		return nil
	}
	return []SealedSecret{{Gateway: true, Sealed: sealed, Binding: GatewayBinding()}}
}

// reencryptGateway replaces the registry's sealed secrets by the same under another key. Nodes need not load it again.
func (s *State) reencryptGateway(item *hubpb.SecretsReencrypted_Item) {
	r := s.gateway
	if string(r.GetApplied().GetSealed()) != string(item.Was) {
		return
	}
	a := r.GetApplied()
	s.gateway = &hubpb.GatewayRow{Parts: slices.Clone(r.GetParts()), AppliedAt: r.GetAppliedAt(), Index: r.GetIndex(),
		Applied: &hubpb.GatewayApplied{Blob: a.GetBlob(), Parts: a.GetParts(), Size: a.GetSize(), Sealed: item.Sealed, Hash: a.GetHash(),
			Replaces: a.Replaces, By: a.GetBy()}}
	s.touch(TableGateway, 0)
}
