package delivery

import (
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// settlement is something that must be in the log before its lane goes on: a dead letter, or the end of a
// subscription whose callback is gone.
type settlement struct {
	lane     *lane
	gone     bool
	entry    *entry // of a flow: the message given up
	flowGen  uint32
	void     bool   // of a flow: overtaken before it was proposed
	gen      uint32 // of a gone callback: the lane's, when it answered 410
	epoch    uint64 // under which it was proposed
	rewinds  uint32 // of a dead letter: the lane's; void if the lane has moved since
	offset   uint64
	attempts uint32
	status   int32
	reason   egress.Reason
	delay    time.Duration // wait before the lane's next message

	// Of the dead letter.
	attemptLog  []*hubpb.Attempt
	size        int
	published   int64
	contentType string
}

// eventLocked returns the event to propose. An end overtaken by a renewal, and a message given up before a rewind,
// become a no-op: a cursor event without cursors.
func (s *settlement) eventLocked() *hubpb.Event {
	s.epoch = s.lane.epoch
	switch {
	case s.entry != nil:
		return s.entryEventLocked()
	case s.gone && s.lane.gen == s.gen:
		return goneEvent(s.lane.id, s.lane.renewed, s.epoch)
	case s.gone || s.lane.rewinds != s.rewinds:
		return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{}}}
	}
	return &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
		Subscription: uint64(s.lane.id), Offset: s.offset, Attempts: s.attempts, Status: s.status, Reason: string(s.reason), Epoch: s.epoch,
		Tries: s.attemptLog, Size: uint64(s.size), PublishedAt: s.published, ContentType: s.contentType}}}
}

// goneEvent ends a subscription whose callback answered 410, unless it was renewed or given to another node
// meanwhile.
func goneEvent(id hub.SubscriptionID, renewed int64, epoch uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{uint64(id)}, Reason: hubpb.EndReason_END_GONE, RenewedAt: []int64{renewed}, Epochs: []uint64{epoch}}}}
}

// entryEventLocked returns the event for a message that a flow gives up. It carries the cursor, because messages
// before this one may still be open.
func (s *settlement) entryEventLocked() *hubpb.Event {
	l, f := s.lane, s.lane.flow
	if s.void = l.state == laneEnded || f.gen != s.flowGen || s.entry.state != entrySettling; s.void {
		return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{}}}
	}
	c := f.pb(s.entry)
	c.Released = false
	if f.group == 0 {
		c.Delivered, c.Failures, c.FailingSince = l.delivered, l.failures, l.failingSince
	}
	return &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
		Subscription: uint64(l.id), Offset: s.offset, Attempts: s.attempts, Status: s.status, Reason: string(s.reason),
		Epoch: f.epoch, Cursor: c, Tries: s.attemptLog, Size: uint64(s.size), PublishedAt: s.published, ContentType: s.contentType}}}
}
