package hub

import (
	"slices"

	"quorumhub/hub/hubpb"
)

// GroupID numbers consumer groups from 1; it is never reused.
type GroupID uint64

// group is a consumer group: subscriptions of one topic that share a cursor and an owner, so that each message goes
// to one of them. It begins with its first member and ends with its last.
type group struct {
	id         GroupID
	topic      TopicID
	name       string
	order      Options // mode, window and key, on which all members agree
	owner      string  // principal that owns its first member, empty: none
	Cursor     Cursor  // shared progress; delivery statistics are the members' own
	Assignment Assignment
	members    []SubscriptionID // sorted
}

type groupKey struct {
	topic TopicID
	name  string
}

// unit is what one node delivers with one cursor: a subscription, or a whole consumer group.
type unit struct {
	topic      *Topic
	assignment *Assignment
	cursor     *Cursor
	sub        *Subscription // nil: a group
	group      *group        // nil: a subscription
}

// unit returns the target of an event: a group, or a subscription outside any group.
func (s *State) unit(id SubscriptionID, of GroupID) (unit, bool) {
	if g := s.groups[of]; g != nil {
		return s.groupUnit(g), true
	}
	sub := s.subs[id]
	if of != 0 || sub == nil || sub.Group != 0 {
		return unit{}, false
	}
	return s.unitOf(sub), true
}

// unitOf returns the unit that delivers a subscription.
func (s *State) unitOf(sub *Subscription) unit {
	if g := s.groups[sub.Group]; g != nil {
		return s.groupUnit(g)
	}
	return unit{topic: s.topics[sub.Topic], assignment: &sub.Assignment, cursor: &sub.Cursor, sub: sub}
}

func (s *State) groupUnit(g *group) unit {
	return unit{topic: s.topics[g.topic], assignment: &g.Assignment, cursor: &g.Cursor, group: g}
}

func (u *unit) touch(s *State) {
	if u.group != nil {
		s.touch(TableGroup, uint64(u.group.id))
	} else {
		s.touch(TableSubscription, uint64(u.sub.ID))
	}
}

func (u *unit) touchCursor(s *State) {
	if u.group != nil {
		s.touch(TableGroup, uint64(u.group.id))
	} else {
		s.touch(TableCursor, uint64(u.sub.ID))
	}
}

// first returns the subscription that stands for the unit.
func (u *unit) first() SubscriptionID {
	if u.group != nil {
		return u.group.members[0]
	}
	return u.sub.ID
}

// report adds the unit's present state to the effects: for a group, that of each member.
func (s *State) report(u unit, fx *Effects) {
	if u.group == nil {
		fx.Subscriptions = append(fx.Subscriptions, *u.sub)
		return
	}
	for _, id := range u.group.members {
		fx.Subscriptions = append(fx.Subscriptions, s.view(s.subs[id]))
	}
}

// view returns a copy of a subscription for callers outside the state: a member of a group gets the group's owner and
// cursor.
func (s *State) view(sub *Subscription) Subscription {
	out := *sub
	if g := s.groups[sub.Group]; g != nil {
		own := out.Cursor
		out.Assignment, out.Cursor = g.Assignment, g.Cursor
		c := &out.Cursor
		c.Delivered, c.Failures, c.FailingSince, c.DeadLetters = own.Delivered, own.Failures, own.FailingSince, own.DeadLetters
	}
	return out
}

// GroupOrder returns the mode, window and key of a topic's consumer group; ok is false if there is no such group.
func (s *State) GroupOrder(topicName, name string) (o Options, ok bool) {
	g := s.groups[s.groupByKey[groupKey{s.topicByName[topicName], name}]]
	if g == nil {
		return Options{}, false
	}
	return g.order, true
}

// joins reports whether a subscription with these options may join the group it names. An only member may change what
// the members must agree on.
func (s *State) joins(t TopicID, id SubscriptionID, o *Options) bool {
	g := s.groups[s.groupByKey[groupKey{t, o.Group}]]
	return g == nil || g.order.SameOrder(o) || len(g.members) == 1 && g.members[0] == id
}

// join adds a subscription to the group its options name. A new group starts at the subscription's cursor.
func (s *State) join(sub *Subscription, o *Options, candidates []*hubpb.Candidate) {
	key := groupKey{sub.Topic, o.Group}
	g := s.groups[s.groupByKey[key]]
	if g == nil {
		s.meta.NextGroup++
		g = &group{id: GroupID(s.meta.NextGroup), topic: sub.Topic, name: o.Group, order: o.order(), Cursor: sub.Cursor}
		c := &g.Cursor
		c.Delivered, c.Failures, c.FailingSince, c.DeadLetters, c.Gap = 0, 0, 0, 0, 0
		s.groups[g.id], s.groupByKey[key] = g, g.id
		t := s.topics[g.topic]
		t.groups = append(t.groups, g.id) // ids rise, so the list stays sorted
	}
	epoch := sub.Assignment.Epoch
	sub.Group, sub.Assignment = g.id, Assignment{}
	sub.Cursor.place(0)
	at, _ := slices.BinarySearch(g.members, sub.ID)
	g.members = slices.Insert(g.members, at, sub.ID)
	s.grouped++
	s.touch(TableGroup, uint64(g.id))
	u := s.groupUnit(g)
	if len(g.members) == 1 {
		g.Assignment.Epoch = epoch
		s.setOwnerIfAny(u, s.leastLoaded(u.topic, candidates))
	} else if epoch >= g.Assignment.Epoch {
		g.Assignment.Epoch = epoch + 1 // above the subscription's own epoch so far
	}
}

// leave takes a subscription out of its group; the last member takes the group with it. The subscription keeps the
// group's cursor, without an owner, under an epoch above the group's.
func (s *State) leave(sub *Subscription) {
	g := s.groups[sub.Group]
	i, _ := slices.BinarySearch(g.members, sub.ID)
	g.members = slices.Delete(g.members, i, i+1)
	sub.Group = 0
	sub.Assignment = Assignment{Epoch: g.Assignment.Epoch + 1}
	sub.Cursor.place(g.Cursor.Offset)
	s.grouped--
	s.touch(TableGroup, uint64(g.id))
	if len(g.members) > 0 {
		return
	}
	t := s.topics[g.topic]
	s.count(t, g.Assignment.Node, -1)
	if i, ok := slices.BinarySearch(t.groups, g.id); ok {
		t.groups = slices.Delete(t.groups, i, i+1)
	}
	delete(s.groups, g.id)
	delete(s.groupByKey, groupKey{g.topic, g.name})
}

// regroup applies the group and order that a subscription asks for. A change starts a new epoch, since messages in
// flight were sent under the old settings.
// The owner is who asked; it adopts the subscription and its group if they have none.
func (s *State) regroup(sub *Subscription, o Options, candidates []*hubpb.Candidate, owner string, fx *Effects) {
	old := Options{}
	if sub.Options != nil {
		old = *sub.Options
	}
	sub.Options = o.shared()
	g := s.groups[sub.Group]
	switch {
	case g == nil && o.Group != "":
		s.count(s.topics[sub.Topic], sub.Assignment.Node, -1)
		s.join(sub, &o, candidates)
	case g != nil && g.name != o.Group:
		s.leave(sub)
		if o.Group != "" {
			s.join(sub, &o, candidates)
		} else {
			s.setOwnerIfAny(s.unitOf(sub), s.leastLoaded(s.topics[sub.Topic], candidates))
		}
	case g != nil && !g.order.SameOrder(&o):
		g.order = o.order()
		s.restart(s.unitOf(sub))
	case g == nil && !old.SameOrder(&o):
		s.restart(s.unitOf(sub))
	}
	s.adopt(sub, owner, g)
	s.touch(TableSubscription, uint64(sub.ID))
	s.touch(TableCursor, uint64(sub.ID))
	s.report(s.unitOf(sub), fx)
}

// restart starts a new epoch with the same owner. Messages delivered out of order are sent again.
func (s *State) restart(u unit) {
	u.cursor.place(u.cursor.Offset)
	if a := u.assignment; a.Node != "" { // without an owner nobody has started to deliver it
		a.Epoch++
		a.Rewound = a.Epoch
	}
	u.touch(s)
	u.touchCursor(s)
}

func (g *group) row() *hubpb.GroupRow {
	a := &g.Assignment
	return &hubpb.GroupRow{Id: uint64(g.id), Topic: uint64(g.topic), Name: g.name, Options: g.order.pb(""),
		Node: a.Node, Epoch: a.Epoch, NextNode: a.Next, Rewound: a.Rewound, Cursor: g.Cursor.row(0), Owner: g.owner}
}

func groupFromRow(r *hubpb.GroupRow) *group {
	return &group{id: GroupID(r.Id), topic: TopicID(r.Topic), name: r.Name, order: optionsFromPB(r.Options),
		Assignment: Assignment{Node: r.Node, Epoch: r.Epoch, Next: r.NextNode, Rewound: r.Rewound}, Cursor: cursorFromRow(r.Cursor), owner: shared(r.Owner)}
}
