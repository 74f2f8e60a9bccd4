package hub

import (
	"cmp"
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

const (
	// FailedRequestsFor is how long a request that failed is kept, in the log's time.
	FailedRequestsFor = time.Hour
	// maxFailedRequests bounds the failed requests kept; beyond it the oldest are forgotten, first those of a principal
	// that has more than its share. Like FailedRequestsFor it is part of the fold.
	maxFailedRequests = 10_000
	// maxFailedOf bounds those of one principal.
	maxFailedOf = 1000
	// maxAskedBytes bounds what is kept of one so that it can be made again.
	maxAskedBytes = 4 << 10
)

// Reasons of failed requests that the fold finds. Verification adds those of the calls it makes.
const (
	FailedNotOwner     = "not_owner"      // it belongs to another principal
	FailedUnknownTopic = "unknown-topic"  // the topic was removed, or never existed
	FailedGroup        = "group-conflict" // the consumer group has another mode, window or key
	FailedQuota        = "quota"          // a quota of whoever asked is reached
	FailedRetired      = "retired-topic"  // the topic was retired
)

// FailedRequest is a subscribe or unsubscribe request that came to nothing.
type FailedRequest struct {
	ID          RequestID
	Mode        hubpb.Mode
	TopicName   string
	TopicRaw    string
	Callback    string
	CallbackKey string
	Owner       string // who asked, empty: nobody
	Reason      string // class of the failure
	Status      int32  // last HTTP status of the callback, 0: none
	Attempts    uint32 // calls of the callback
	RequestedAt time.Time
	SettledAt   time.Time

	number uint64   // in order of failure
	asked  *Request // to make it again; nil: not kept. It is shared and immutable.
}

// Repeatable reports whether the request was kept whole, so that it can be made again.
func (f *FailedRequest) Repeatable() bool { return f.asked != nil }

// ModeName returns the mode as hub.mode spells it on the wire.
func (f *FailedRequest) ModeName() string {
	r := Request{Mode: f.Mode}
	return r.ModeName()
}

// failedRequests are kept for a while, in order of failure.
type failedRequests struct {
	byNumber map[uint64]*FailedRequest
	first    uint64              // no number is below
	of       map[string][]uint64 // numbers by owner, in order
}

func newFailedRequests() failedRequests {
	return failedRequests{byNumber: map[uint64]*FailedRequest{}, of: map[string][]uint64{}}
}

// fail keeps a request that has come to nothing, and announces it. r is no longer pending, or never was.
func (s *State) fail(r *Request, reason string, status int32, attempts uint32, fx *Effects) {
	if !s.hasOwners() || r.Mode != ModeSubscribe && r.Mode != ModeUnsubscribe {
		return
	}
	s.forgetFailed(r.Owner)
	s.meta.NextFailedRequest++
	f := &FailedRequest{ID: r.ID, Mode: r.Mode, TopicName: r.TopicName, TopicRaw: r.TopicRaw, Callback: r.Callback, CallbackKey: r.CallbackKey,
		Owner: r.Owner, Reason: shared(reason), Status: status, Attempts: attempts, RequestedAt: r.RequestedAt, SettledAt: timeOf(s.meta.Now),
		number: s.meta.NextFailedRequest}
	if s.meta.FeatureLevel >= levelAgain && r.weight() <= maxAskedBytes {
		kept := *r
		f.asked = &kept
	}
	s.failed.insert(f)
	s.touch(TableFailedRequest, f.number)
	told := *f
	told.asked = nil
	fx.Failed = append(fx.Failed, told)
	s.announceFailed(f, fx)
}

// insert adds a request; the order of loading does not matter.
func (m *failedRequests) insert(f *FailedRequest) {
	if len(m.byNumber) == 0 || f.number < m.first {
		m.first = f.number
	}
	m.byNumber[f.number] = f
	of := m.of[f.Owner]
	at, _ := slices.BinarySearch(of, f.number)
	m.of[f.Owner] = slices.Insert(of, at, f.number)
}

// forgetFailed forgets the failed requests that are too old, and makes room for one more of owner.
func (s *State) forgetFailed(owner string) {
	m := &s.failed
	for len(m.byNumber) > 0 {
		f, full := m.oldest(), len(m.byNumber) >= maxFailedRequests
		if !full && s.meta.Now-nanos(f.SettledAt) < int64(FailedRequestsFor) {
			break
		}
		if full && len(m.of[owner]) > maxFailedRequests/(len(m.of)+1) {
			f = m.byNumber[m.of[owner][0]] // it has more than its share
		}
		s.dropFailed(f)
	}
	if owner != "" && len(m.of[owner]) >= maxFailedOf {
		s.dropFailed(m.byNumber[m.of[owner][0]])
	}
}

// oldest returns the oldest failed request; there must be one.
func (m *failedRequests) oldest() *FailedRequest {
	for m.byNumber[m.first] == nil {
		m.first++
	}
	return m.byNumber[m.first]
}

func (s *State) dropFailed(f *FailedRequest) {
	m := &s.failed
	delete(m.byNumber, f.number)
	of := m.of[f.Owner]
	at, _ := slices.BinarySearch(of, f.number)
	if m.of[f.Owner] = slices.Delete(of, at, at+1); len(of) == 1 {
		delete(m.of, f.Owner)
	}
	s.touch(TableFailedRequest, f.number)
}

// FailedRequest returns a copy of a request that failed within the last hour.
func (s *State) FailedRequest(id RequestID) (FailedRequest, bool) {
	for _, f := range s.failed.byNumber {
		if f.ID == id && s.meta.Now-nanos(f.SettledAt) < int64(FailedRequestsFor) {
			return *f, true
		}
	}
	return FailedRequest{}, false
}

// RequestFilter selects pending and failed requests. The zero value selects all.
type RequestFilter struct {
	Topic       string // name; empty: all
	CallbackKey string // normalised callback; empty: all
	// Owner selects the requests of one principal, unless All is set: empty is then those of nobody.
	Owner string
	All   bool
}

func (f *RequestFilter) match(topic, callbackKey, owner string) bool {
	return (f.Topic == "" || f.Topic == topic) && (f.CallbackKey == "" || f.CallbackKey == callbackKey) && (f.All || f.Owner == owner)
}

// FailedRequests returns copies of at most max of the matching requests that failed within the last hour, the latest
// request first, with an ID below before; 0: no bound.
func (s *State) FailedRequests(f RequestFilter, before RequestID, max int) []FailedRequest {
	var found []*FailedRequest
	for _, r := range s.failed.byNumber {
		if (before == 0 || r.ID < before) && s.meta.Now-nanos(r.SettledAt) < int64(FailedRequestsFor) && f.match(r.TopicName, r.CallbackKey, r.Owner) {
			found = latest(append(found, r), 4*max, max, func(r *FailedRequest) RequestID { return r.ID })
		}
	}
	return copies(latest(found, 0, max, func(r *FailedRequest) RequestID { return r.ID }))
}

// latest sorts requests, the latest first, and keeps at most max of them (0: all), once there are more than some.
func latest[T any](list []*T, some, max int, id func(*T) RequestID) []*T {
	if len(list) <= some || some > 0 && max <= 0 {
		return list
	}
	slices.SortFunc(list, func(a, b *T) int { return cmp.Compare(id(b), id(a)) })
	if max > 0 && len(list) > max {
		list = list[:max]
	}
	return list
}

func copies[T any](list []*T) []T {
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = *v
	}
	return out
}

// PendingRequests returns copies of at most max of the matching requests that wait for verification, the latest first,
// with an ID below before; 0: no bound.
func (s *State) PendingRequests(f RequestFilter, before RequestID, max int) []Request {
	var found []*Request
	for _, r := range s.requests {
		if (before == 0 || r.ID < before) && r.Mode != ModeDenied && f.match(r.TopicName, r.CallbackKey, r.Owner) {
			found = latest(append(found, r), 4*max, max, func(r *Request) RequestID { return r.ID })
		}
	}
	return copies(latest(found, 0, max, func(r *Request) RequestID { return r.ID }))
}

func (f *FailedRequest) row() *hubpb.FailedRequestRow {
	return &hubpb.FailedRequestRow{Number: f.number, Request: uint64(f.ID), Mode: f.Mode, Topic: f.TopicName, TopicRaw: f.TopicRaw,
		Callback: f.Callback, CallbackKey: f.CallbackKey, Owner: f.Owner, Reason: f.Reason, Status: f.Status, Attempts: f.Attempts,
		RequestedAt: nanos(f.RequestedAt), SettledAt: nanos(f.SettledAt), Asked: f.asked.event()}
}

func failedRequestFromRow(r *hubpb.FailedRequestRow) *FailedRequest {
	f := &FailedRequest{ID: RequestID(r.Request), Mode: r.Mode, TopicName: r.Topic, TopicRaw: r.TopicRaw, Callback: r.Callback,
		CallbackKey: r.CallbackKey, Owner: shared(r.Owner), Reason: shared(r.Reason), Status: r.Status, Attempts: r.Attempts,
		RequestedAt: timeOf(r.RequestedAt), SettledAt: timeOf(r.SettledAt), number: r.Number}
	if r.Asked != nil {
		asked := requestFromPB(r.Asked)
		f.asked = &asked
	}
	return f
}
