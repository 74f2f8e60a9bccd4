package hub

import (
	"container/heap"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"quorumhub/hub/hubpb"
)

// Content by reference: a subscription gets a ticket in place of a message's body and fetches the body with it, so often and so long as
// the topic's owner says. A ticket needs no record: it says what it is for, and its MAC proves that the hub made it. Uses are counted
// in the log, for each subscription and message, so that it does not matter which node is asked and how often a delivery was repeated.

// Reference is what a ticket says.
type Reference struct {
	Subscription  SubscriptionID
	Offset        uint64
	Until         time.Time // whole seconds
	Uses          int
	SamePrincipal bool
}

// ReferenceKeys returns the secrets that authenticate tickets, the one for new tickets first. All nodes have the same.
type ReferenceKeys func() [][]byte

// ReferencePurpose separates these secrets from others that are derived from the same keys.
const ReferencePurpose = "quorumhub content by reference"

const (
	ticketVersion = 1
	ticketBytes   = 1 + 8 + 8 + 8 + 4 + 1 // before the MAC
)

// ErrNoReference is the error for all tickets that open nothing, whether they never did or do no more.
var ErrNoReference = &Error{Code: CodeNotFound, Message: "there is no such reference, or it is used up, revoked or at its end"}

// Ticket returns the reference as unguessable text for a URL: its MAC has 256 bits.
func (k ReferenceKeys) Ticket(r *Reference) (string, error) {
	secrets := k()
	if len(secrets) == 0 {
		return "", errors.New("this node has no keys for references")
	}
	b := make([]byte, 0, ticketBytes+sha256.Size)
	b = append(b, ticketVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Subscription))
	b = binary.BigEndian.AppendUint64(b, r.Offset)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Until.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.Uses))
	if r.SamePrincipal {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, macOf(secrets[0], b)...)), nil
}

// Parse returns what a ticket says, if the hub made it. All errors are ErrNoReference.
func (k ReferenceKeys) Parse(ticket string) (*Reference, error) {
	if len(ticket) != base64.RawURLEncoding.EncodedLen(ticketBytes+sha256.Size) {
		return nil, ErrNoReference
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil || raw[0] != ticketVersion {
		return nil, ErrNoReference
	}
	b, mac := raw[:ticketBytes], raw[ticketBytes:]
	genuine := false
	for _, secret := range k() {
		genuine = hmac.Equal(mac, macOf(secret, b)) || genuine
	}
	if !genuine {
		return nil, ErrNoReference
	}
	return &Reference{Subscription: SubscriptionID(binary.BigEndian.Uint64(b[1:])), Offset: binary.BigEndian.Uint64(b[9:]),
		Until: time.Unix(int64(binary.BigEndian.Uint64(b[17:])), 0).UTC(), Uses: int(binary.BigEndian.Uint32(b[25:])), SamePrincipal: b[29] == 1}, nil
}

func macOf(secret, b []byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write(b)
	return m.Sum(nil)
}

const (
	// MaxFetched bounds the messages that were fetched by reference and whose references have not ended.
	MaxFetched = 1 << 20
	// referenceSession is how long ranges may continue a use.
	referenceSession = time.Hour
	// rangesPerUse is how many times the size of the whole one use lets a subscriber fetch, in ranges.
	rangesPerUse = 2
)

type fetchedKey struct {
	subscription SubscriptionID
	offset       uint64
}

func (k fetchedKey) row() RowKey {
	return RowKey{Table: TableFetched, ID: uint64(k.subscription), Name: strconv.FormatUint(k.offset, 10)}
}

func fetchedKeyOf(k RowKey) (fetchedKey, bool) {
	offset, err := strconv.ParseUint(k.Name, 10, 64)
	return fetchedKey{SubscriptionID(k.ID), offset}, err == nil
}

// fetched counts what was fetched by reference.
type fetched struct {
	by     map[fetchedKey]*hubpb.SharedContentRow
	of     map[SubscriptionID]map[uint64]struct{}
	expiry fetchedHeap
}

func newFetched() fetched {
	return fetched{by: map[fetchedKey]*hubpb.SharedContentRow{}, of: map[SubscriptionID]map[uint64]struct{}{}}
}

func (f *fetched) put(k fetchedKey, r *hubpb.SharedContentRow) {
	if was := f.by[k]; was == nil || was.Until != r.Until {
		heap.Push(&f.expiry, fetchedExpiry{r.Until, k})
	}
	f.by[k] = r
	if f.of[k.subscription] == nil {
		f.of[k.subscription] = map[uint64]struct{}{}
	}
	f.of[k.subscription][k.offset] = struct{}{}
}

func (f *fetched) remove(k fetchedKey) {
	delete(f.by, k)
	if of := f.of[k.subscription]; of != nil {
		if delete(of, k.offset); len(of) == 0 {
			delete(f.of, k.subscription)
		}
	}
}

type fetchedExpiry struct {
	until int64
	key   fetchedKey
}

// fetchedHeap is a min-heap by expiry. Entries that a later one for the same message has replaced are passed over.
type fetchedHeap []fetchedExpiry

func (h fetchedHeap) Len() int           { return len(h) }
func (h fetchedHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h fetchedHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *fetchedHeap) Push(x any)        { *h = append(*h, x.(fetchedExpiry)) }
func (h *fetchedHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// Referenced returns the subscription and the topic of a reference that is good at now, or ErrNoReference. It says nothing about uses.
func (s *State) Referenced(r *Reference, now time.Time) (sub Subscription, t Topic, err error) {
	found := s.subs[r.Subscription]
	switch {
	case found == nil, found.Expired(now), !now.Before(r.Until), found.Paused && found.PauseReason == PauseNotAllowed:
		return sub, t, ErrNoReference
	}
	t, ok := s.TopicByID(found.Topic)
	if !ok || t.Content.Revoked(r.Offset) || r.Offset > t.Head {
		return sub, t, ErrNoReference
	}
	return s.view(found), t, nil
}

// MayFetch reports whether a reference has a use left, or one that ranges may continue.
func (s *State) MayFetch(r *Reference, now time.Time) bool {
	row := s.taken.by[fetchedKey{r.Subscription, r.Offset}]
	return row == nil || int(row.Used) < r.Uses || row.Left > 0 && now.Before(timeOf(row.Begun).Add(referenceSession))
}

// fetchContent counts a use of a reference. A use is one fetch of the whole, or ranges that add up to at most twice its size within an
// hour: what a download that breaks off and goes on, or comes in pieces, needs.
func (s *State) fetchContent(e *hubpb.SharedContentFetched) Result {
	f := &s.taken
	for len(f.expiry) > 0 && f.expiry[0].until <= s.meta.Now {
		gone := heap.Pop(&f.expiry).(fetchedExpiry)
		if row := f.by[gone.key]; row != nil && row.Until <= s.meta.Now {
			f.remove(gone.key)
			s.touchRow(gone.key.row())
		}
	}
	r := &Reference{Subscription: SubscriptionID(e.Subscription), Offset: e.Offset, Until: timeOf(e.Until)}
	if _, _, err := s.Referenced(r, s.Now()); err != nil {
		return Result{Outcome: OutcomeNotFound}
	}
	k := fetchedKey{r.Subscription, r.Offset}
	var row hubpb.SharedContentRow
	switch was := f.by[k]; {
	case was != nil:
		row.Used, row.Begun, row.Left, row.Until = was.Used, was.Begun, was.Left, was.Until
	case len(f.by) >= MaxFetched, len(f.of[k.subscription]) >= MaxFetched-len(f.by): // nobody may have more than is left to others
		return Result{Outcome: OutcomeFull}
	}
	if continued := e.Range && e.Bytes <= row.Left && s.meta.Now < row.Begun+int64(referenceSession); continued {
		row.Left -= e.Bytes
	} else {
		if row.Used >= e.Uses {
			return Result{Outcome: OutcomeStale, ID: uint64(row.Used)}
		}
		row.Used++
		row.Begun, row.Left = s.meta.Now, rangesPerUse*e.Size-min(e.Bytes, e.Size)
		if !e.Range {
			row.Left = e.Size // for what a broken download lacks
		}
	}
	row.Until = max(row.Until, e.Until)
	f.put(k, &row)
	s.touchRow(k.row())
	return Result{ID: uint64(row.Used)}
}

// forgetFetched forgets what a subscription that has ended fetched.
func (s *State) forgetFetched(id SubscriptionID) {
	for offset := range s.taken.of[id] {
		k := fetchedKey{id, offset}
		s.taken.remove(k)
		s.touchRow(k.row())
	}
}

// Fetch is one fetch of content by reference.
type Fetch struct {
	Bytes, Size int64
	Range       bool // it is a part
}

// FetchReference counts a fetch in the log, before anything is sent, and returns which use of the reference it belongs to. A reference
// that opens nothing is ErrNoReference.
func (s *Service) FetchReference(ctx context.Context, r *Reference, f Fetch) (use int, err error) {
	res, err := s.proposeOne(ctx, &hubpb.Event{Kind: &hubpb.Event_SharedContentFetched{SharedContentFetched: &hubpb.SharedContentFetched{
		Subscription: uint64(r.Subscription), Offset: r.Offset, Uses: uint32(r.Uses), Until: r.Until.UnixNano(),
		Bytes: uint64(f.Bytes), Size: uint64(f.Size), Range: f.Range}}})
	if err != nil {
		return 0, err
	}
	switch res.Outcome { //nolint:exhaustive // the others are no refusals
	case OutcomeOK:
		return int(res.ID), nil
	case OutcomeFull:
		return 0, Errorf(CodeLimited, "more messages were fetched by reference than this hub keeps count of; try again when some of the references have ended")
	}
	return 0, ErrNoReference
}
