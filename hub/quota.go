package hub

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// MaxQuotaSettings bounds the quotas that are set while the hub runs. It is part of the fold.
const MaxQuotaSettings = 10_000

// Quotas limit what one principal may have at a time. 0: no limit.
type Quotas struct {
	Topics          int
	Subscriptions   int
	PendingRequests int // waiting for verification
	IdempotencyKeys int // past it the oldest is forgotten; nothing is refused
	APIKeys         int
	NoncesPerMinute int
	StoredBytes     int64 // of the messages of its topics, as stored
	DeadLetterBytes int64 // bodies only; past it the oldest dead letter is dropped
}

// DefaultQuotas returns the quotas of a principal for whom nothing else is configured.
func DefaultQuotas() Quotas {
	return Quotas{Topics: 1000, Subscriptions: 10_000, PendingRequests: 100, IdempotencyKeys: 100_000, APIKeys: 100, NoncesPerMinute: 10_000}
}

// Quota names one of the Quotas, as in auth.quotas.
type Quota string

// Quotas by name.
const (
	QuotaTopics        Quota = "topics"
	QuotaSubscriptions Quota = "subscriptions"
	QuotaRequests      Quota = "pending_requests"
	QuotaKeys          Quota = "idempotency_keys"
	QuotaAPIKeys       Quota = "api_keys"
	QuotaNonces        Quota = "nonces_per_minute"
	QuotaLogins        Quota = "logins_per_minute" // of one network; not in auth.quotas
	QuotaStoredBytes   Quota = "stored_bytes"
	QuotaLetterBytes   Quota = "dead_letter_bytes"
)

// quotaList gives each quota the number by which a Result names it: its index plus 1.
func quotaList() []Quota {
	return []Quota{QuotaTopics, QuotaSubscriptions, QuotaRequests, QuotaKeys, QuotaAPIKeys, QuotaNonces, QuotaStoredBytes, QuotaLogins}
}

// quotaReached is the result of an event that a quota refuses.
func quotaReached(q Quota, used int, limit uint32) Result {
	return Result{Outcome: OutcomeQuota, ID: uint64(slices.Index(quotaList(), q) + 1), Offset: uint64(used), Topic: TopicID(limit)}
}

// bytesReached is quotaReached for a quota of bytes.
func bytesReached(q Quota, used, limit uint64) Result {
	r := quotaReached(q, 0, 0)
	r.Offset, r.Topic = used, TopicID(limit)
	return r
}

// quotaUse is the inverse of quotaReached.
func (r Result) quotaUse() QuotaUse {
	u := QuotaUse{Limit: int64(r.Topic), Used: int64(r.Offset)}
	if quotas := quotaList(); r.ID >= 1 && r.ID <= uint64(len(quotas)) {
		u.Quota = quotas[r.ID-1]
	}
	return u
}

// QuotaUse tells which quota refused something.
type QuotaUse struct {
	Quota Quota
	Limit int64
	Used  int64
}

// overQuota returns the error for a quota that is reached: CodeLimited for a rate, CodeForbidden for an amount.
func overQuota(u QuotaUse) *Error {
	if u.Quota == QuotaNonces {
		return &Error{Code: CodeLimited, Quota: &u, RetryAfter: time.Minute,
			Message: fmt.Sprintf("the quota %s is reached: %d signed requests of %d; try again in a minute", u.Quota, u.Used, u.Limit)}
	}
	if u.Quota == QuotaLogins {
		return &Error{Code: CodeLimited, Quota: &u, RetryAfter: time.Minute,
			Message: fmt.Sprintf("the quota %s is reached: %d logins of %d came from this network; try again in a minute", u.Quota, u.Used, u.Limit)}
	}
	if u.Quota == QuotaStoredBytes {
		return &Error{Code: CodeForbidden, Quota: &u,
			Message: fmt.Sprintf("the quota %s of the topic's owner is reached: %d of %d bytes are in use, and this does not fit; keep less (retention of the topics), or ask the operator for more (quorumhub auth quotas)", u.Quota, u.Used, u.Limit)}
	}
	return &Error{Code: CodeForbidden, Quota: &u,
		Message: fmt.Sprintf("the quota %s is reached: %d of %d are in use; remove some, or ask the operator for more (quorumhub auth quotas)", u.Quota, u.Used, u.Limit)}
}

// QuotaSetting holds quotas set at run time: of a principal, of a role, or of everybody (default). The hub stores it;
// interpreting it is up to the caller.
type QuotaSetting struct {
	Name   string
	Quotas []byte // JSON
	SetAt  time.Time
	By     string
	// StoredBytes and DeadLetterBytes are those of a principal, which apply at once; nil: not set, or not of a
	// principal. Other limits in bytes apply from when the principal next publishes to a topic of its own, or subscribes.
	StoredBytes, DeadLetterBytes *int64
}

// SetQuotas adds quotas or replaces those with the same name. The caller must have validated them.
func (s *Service) SetQuotas(ctx context.Context, q QuotaSetting) error {
	ev := &hubpb.QuotaSet{Name: q.Name, Quotas: q.Quotas, By: q.By}
	if q.StoredBytes != nil {
		ev.MaxStoredBytes = new(limitBytes(*q.StoredBytes))
	}
	if q.DeadLetterBytes != nil {
		ev.MaxDeadLetterBytes = new(limitBytes(*q.DeadLetterBytes))
	}
	_, err := s.propose(ctx, q.Name, &hubpb.Event{Kind: &hubpb.Event_QuotaSet{QuotaSet: ev}})
	return err
}

// RemoveQuotas removes quotas set at run time, so that those of auth.file apply again. Unknown ones are CodeNotFound.
func (s *Service) RemoveQuotas(ctx context.Context, name, by string) error {
	_, err := s.propose(ctx, name, &hubpb.Event{Kind: &hubpb.Event_QuotaRemoved{QuotaRemoved: &hubpb.QuotaRemoved{Name: name, By: by}}})
	return err
}

func (s *State) setQuota(e *hubpb.QuotaSet) Result {
	if s.access.quotas[e.Name] == nil && len(s.access.quotas) >= MaxQuotaSettings {
		return Result{Outcome: OutcomeFull}
	}
	s.access.quotas[e.Name] = &hubpb.QuotaRow{Set: e, SetAt: s.meta.Now}
	s.meta.AccessVersion++
	s.touchName(TableQuota, e.Name)
	limits := s.held(e.Name).limits
	if e.MaxStoredBytes != nil {
		limits.stored = *e.MaxStoredBytes
	}
	if e.MaxDeadLetterBytes != nil {
		limits.letters = *e.MaxDeadLetterBytes
	}
	s.limitBytes(e.Name, limits)
	return Result{}
}

func (s *State) removeQuota(e *hubpb.QuotaRemoved) Result {
	if s.access.quotas[e.Name] == nil {
		return Result{Outcome: OutcomeNotFound}
	}
	delete(s.access.quotas, e.Name)
	s.meta.AccessVersion++
	s.touchName(TableQuota, e.Name)
	return Result{}
}

// QuotaSettings returns the quotas set at run time, in order of name.
func (s *State) QuotaSettings() []QuotaSetting {
	out := make([]QuotaSetting, 0, len(s.access.quotas))
	for _, r := range s.access.quotas {
		q := QuotaSetting{Name: r.GetSet().GetName(), Quotas: r.GetSet().GetQuotas(), SetAt: timeOf(r.SetAt), By: r.GetSet().GetBy()}
		out = append(out, q)
	}
	slices.SortFunc(out, func(a, b QuotaSetting) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
