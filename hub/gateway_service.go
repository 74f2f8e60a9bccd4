package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	"quorumhub/hub/hubpb"
)

// ErrGatewayReplaced is the error for a change of another registry than the present one.
var ErrGatewayReplaced = &Error{Code: CodeConflict, Param: "If-Match",
	Message: "is not the hash of the present registry; somebody has applied another one: compare again (quorumhub gateway diff), then apply"}

// GatewayChange says how to apply a registry.
type GatewayChange struct {
	// Replaces, unless nil, is the hash that the present registry must have; empty: there must be none yet.
	Replaces *string
	DryRun   bool // check everything and change nothing
	By       string
}

// GatewayApplied is what came of applying a registry.
type GatewayApplied struct {
	Hash    string
	Index   uint64 // of the log entry that applied it; 0: not applied, because of GatewayChange.DryRun
	Changed bool   // false: it is the present one already
	// Secrets names those that were added, changed or removed, in order.
	Secrets []string
}

// ApplyGateway makes a document the gateway's registry, on all nodes at one place of the log. A document that the present
// one equals changes nothing. Errors about the document are *InvalidGatewayError; a registry that somebody else has replaced
// is ErrGatewayReplaced. Authorisation is up to the caller.
func (s *Service) ApplyGateway(ctx context.Context, d GatewayDocument, c GatewayChange) (GatewayApplied, error) {
	if err := d.checkSize(); err != nil {
		return GatewayApplied{}, err
	}
	if s.policy.GatewayChecker != nil {
		if mistakes := s.policy.GatewayChecker.CheckGateway(&d); len(mistakes) > 0 {
			return GatewayApplied{}, &InvalidGatewayError{mistakes}
		}
	}
	var present GatewayInfo
	s.state.View(func(st *State) { present, _ = st.Gateway() })
	salt, secrets, err := s.openGatewaySecrets(present)
	if err != nil || len(salt) != gatewaySaltBytes {
		salt = make([]byte, gatewaySaltBytes)
		_, _ = rand.Read(salt) // never fails
	}
	out := GatewayApplied{Hash: d.hash(salt), Index: present.Index, Secrets: changedSecrets(secrets, d.Secrets)}
	switch {
	case out.Hash == present.Hash:
		return out, nil // whatever it should replace: asking again must do no harm
	case c.Replaces != nil && *c.Replaces != present.Hash:
		return GatewayApplied{}, ErrGatewayReplaced
	}
	out.Changed, out.Index = true, 0
	if c.DryRun {
		return out, nil
	}
	res, err := s.writeGateway(ctx, &d, salt, &hubpb.GatewayApplied{Hash: out.Hash, Replaces: c.Replaces, By: c.By})
	if err != nil {
		return GatewayApplied{}, err
	}
	out.Index, out.Changed = res.ID, res.Outcome == OutcomeOK
	return out, nil
}

// writeGateway writes the document to the log, and then the event that makes it the present one.
func (s *Service) writeGateway(ctx context.Context, d *GatewayDocument, salt []byte, ev *hubpb.GatewayApplied) (Result, error) {
	if err := s.knowsGateway("the gateway's registry"); err != nil {
		return Result{}, err // before parts are written in vain
	}
	packed, err := d.pack()
	if err != nil {
		return Result{}, fmt.Errorf("encode the registry: %w", err)
	}
	secrets, err := d.packSecrets(salt)
	if err != nil {
		return Result{}, fmt.Errorf("encode the registry's secrets: %w", err)
	}
	w := NewBlobWriter(s.proposer, "")
	if err := w.WriteAll(ctx, packed); err != nil {
		return Result{}, err
	}
	ev.Blob, ev.Parts, ev.Size = w.id, w.parts, uint64(w.size)
	for tries := 1; ; tries++ {
		if ev.Sealed, err = s.secrets.Seal(secrets, GatewayBinding()); err != nil {
			return Result{}, fmt.Errorf("seal the registry's secrets: %w", err)
		}
		res, err := w.propose(ctx, false, &hubpb.Event{Kind: &hubpb.Event_GatewayApplied{GatewayApplied: ev}})
		if err != nil {
			return Result{}, err
		}
		switch res.Outcome { //nolint:exhaustive // the others have their errors
		case OutcomeKeyRetired:
			if tries < sealTries {
				continue // as in request
			}
		case OutcomeStale:
			return Result{}, ErrGatewayReplaced
		case OutcomeNotFound:
			return Result{}, errForgotten()
		}
		return res, res.Err("the registry")
	}
}

// knowsGateway returns an error while some node does not know levelGateway.
func (s *Service) knowsGateway(what string) error {
	has := uint32(0)
	s.state.View(func(st *State) { has = st.FeatureLevel() })
	if has < levelGateway {
		return Errorf(CodeUnavailable, "%s needs feature level %d, but the cluster is at level %d; run the same quorumhub version on every node", what, levelGateway, has)
	}
	return nil
}

func (s *Service) openGatewaySecrets(g GatewayInfo) (salt []byte, secrets map[string]string, err error) {
	sealed := g.row.GetApplied().GetSealed()
	if len(sealed) == 0 {
		return nil, nil, nil
	}
	raw, err := s.secrets.Open(sealed, GatewayBinding())
	if err != nil {
		return nil, nil, fmt.Errorf("open the secrets of the gateway's registry: %w", err)
	}
	return unpackSecrets(raw)
}

func changedSecrets(old, now map[string]string) []string {
	names := map[string]bool{}
	for name, value := range now {
		if was, ok := old[name]; !ok || was != value {
			names[name] = true
		}
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Gateway returns the gateway's present registry with its document; ok is false if none has been applied. The secrets are
// for those who run the gateway and must not be shown.
func (s *Service) Gateway() (info GatewayInfo, d GatewayDocument, ok bool, err error) {
	for range 3 {
		if info, d, ok, err = s.readGateway(); !errors.Is(err, ErrTrimmed) {
			return info, d, ok, err
		} // replaced while it was being read
	}
	return info, d, ok, err
}

func (s *Service) readGateway() (info GatewayInfo, d GatewayDocument, ok bool, err error) {
	s.state.View(func(st *State) { info, ok = st.Gateway() })
	if !ok {
		return info, d, false, nil
	}
	if s.policy.Parts == nil {
		return info, d, true, errors.New("this service cannot read the gateway's registry")
	}
	m := Message{Parts: info.row.GetParts(), PartsSize: int64(info.row.GetApplied().GetSize())}
	if d, err = unpackGateway(NewBodyReader(s.policy.Parts, &m)); err != nil {
		return info, d, true, fmt.Errorf("read the gateway's registry: %w", err)
	}
	if _, d.Secrets, err = s.openGatewaySecrets(info); err != nil {
		return info, d, true, err
	}
	return info, d, true, nil
}
