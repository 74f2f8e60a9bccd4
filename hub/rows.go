package hub

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// Table is a kind of row in the state file. The numbers are part of the file format.
type Table uint8

const (
	TableMeta          Table = 1
	TableTopic         Table = 2
	TableSubscription  Table = 3
	TableCursor        Table = 4
	TableRequest       Table = 5
	TableDeadLetter    Table = 6
	TableIdempotency   Table = 7
	TableOrigin        Table = 8
	TableNode          Table = 16
	TableAPIKey        Table = 20
	TableAccessRule    Table = 21
	TableNonce         Table = 22
	TableGroup         Table = 24
	TableFailedRequest Table = 25
	TableCallback      Table = 26
	TableQuota         Table = 27
	TablePrincipal     Table = 28
	TablePendingBlob   Table = 40
	TableMessageBlob   Table = 41
	TableGateway       Table = 42
	TableFetched       Table = 43
	TableSession       Table = 44
	TableGrant         Table = 48
	TableDevice        Table = 49
)

// RowKey identifies one row of the state. Rows are distinguished by ID; those of TableOrigin, TableNode, TableAPIKey,
// TableAccessRule, TableNonce, TableCallback, TableQuota, TablePrincipal, TablePendingBlob, TableSession, TableGrant and TableDevice by Name; those of TableIdempotency, TableMessageBlob and
// TableFetched by both.
type RowKey struct {
	Table Table
	ID    uint64
	Name  string
}

// Append appends the key's stored form to dst: table, big-endian ID, name.
func (k RowKey) Append(dst []byte) []byte {
	dst = append(dst, byte(k.Table))
	dst = binary.BigEndian.AppendUint64(dst, k.ID)
	return append(dst, k.Name...)
}

func (t Table) known() bool {
	return t >= TableMeta && t <= TableOrigin || t == TableNode || t >= TableAPIKey && t <= TableNonce ||
		t == TableGroup || t >= TableFailedRequest && t <= TablePrincipal || t >= TablePendingBlob && t <= TableSession || t == TableGrant || t == TableDevice
}

// ParseRowKey is the inverse of RowKey.Append. Errors wrap ErrCorrupt.
func ParseRowKey(b []byte) (RowKey, error) {
	if len(b) < 9 || !Table(b[0]).known() {
		return RowKey{}, fmt.Errorf("row key %x: %w", b, ErrCorrupt)
	}
	return RowKey{Table: Table(b[0]), ID: binary.BigEndian.Uint64(b[1:]), Name: string(b[9:])}, nil
}

func (s *State) touchRow(k RowKey) { s.dirty[k] = struct{}{} }

func (s *State) touch(t Table, id uint64) { s.dirty[RowKey{Table: t, ID: id}] = struct{}{} }

func (s *State) touchName(t Table, name string) { s.dirty[RowKey{Table: t, Name: name}] = struct{}{} }

// TakeDirty returns the keys of all rows that changed since the last call. The caller must write the rows' present
// values (Row) to disk.
func (s *State) TakeDirty() map[RowKey]struct{} {
	d := s.dirty
	s.dirty = make(map[RowKey]struct{})
	return d
}

// Row encodes the present value of a row; ok is false if the row does not exist.
func (s *State) Row(k RowKey) (value []byte, ok bool, err error) {
	m := s.row(k)
	if m == nil {
		return nil, false, nil
	}
	value, err = proto.Marshal(m)
	if err != nil {
		return nil, false, fmt.Errorf("encode row %v: %w", k, err)
	}
	return value, true, nil
}

func (s *State) row(k RowKey) proto.Message {
	switch k.Table {
	case TableMeta:
		return &s.meta
	case TableTopic:
		if t := s.topics[TopicID(k.ID)]; t != nil {
			return t.row()
		}
	case TableSubscription:
		if sub := s.subs[SubscriptionID(k.ID)]; sub != nil {
			return sub.row()
		}
	case TableCursor:
		if sub := s.subs[SubscriptionID(k.ID)]; sub != nil {
			return sub.Cursor.row(k.ID)
		}
	case TableRequest:
		if r := s.requests[RequestID(k.ID)]; r != nil {
			return r.row()
		}
	case TableDeadLetter:
		if d := s.letters.byID[k.ID]; d != nil {
			return d.row()
		}
	case TableIdempotency:
		if e := s.idempotency.byKey[idempotencyKey{TopicID(k.ID), k.Name}]; e != nil {
			return &hubpb.IdempotencyRow{Topic: k.ID, Key: []byte(k.Name), ContentHash: e.contentHash, Offset: e.offset, At: e.at,
				Owner: e.owner, Number: e.number}
		}
	case TableGroup:
		if g := s.groups[GroupID(k.ID)]; g != nil {
			return g.row()
		}
	case TableFailedRequest:
		if f := s.failed.byNumber[k.ID]; f != nil {
			return f.row()
		}
	case TableOrigin:
		if o := s.origins[k.Name]; o != nil {
			return o.row(k.Name)
		}
	case TablePendingBlob:
		if b := s.pendingBlobs[k.Name]; b != nil {
			return b.row()
		}
	case TableMessageBlob:
		if r := s.messageBlobRow(k); r != nil {
			return r
		}
	case TableGateway:
		if s.gateway != nil {
			return s.gateway
		}
	case TableFetched:
		if k, ok := fetchedKeyOf(k); ok && s.taken.by[k] != nil {
			return s.taken.by[k]
		}
	case TableSession, TableGrant, TableDevice:
		return s.loginRow(k)
	case TableCallback:
		if r := s.callbacks[k.Name]; r != nil {
			return r
		}
	case TableNode:
		if n := s.nodes[k.Name]; n != nil {
			return n.row()
		}
	case TablePrincipal:
		if r := s.holdings[k.Name].row(k.Name); r != nil {
			return r
		}
	case TableAPIKey, TableAccessRule, TableNonce, TableQuota:
		return s.access.row(k)
	}
	return nil
}

// Rows encodes every row in key order and passes each to f until f returns an error. The rows are the whole state:
// two states with equal rows are equal.
func (s *State) Rows(f func(k RowKey, value []byte) error) error {
	for _, k := range s.keys() {
		v, _, err := s.Row(k)
		if err != nil {
			return err
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) keys() []RowKey {
	keys := []RowKey{{Table: TableMeta}}
	for id := range s.topics {
		keys = append(keys, RowKey{Table: TableTopic, ID: uint64(id)})
	}
	for id := range s.subs {
		keys = append(keys, RowKey{Table: TableSubscription, ID: uint64(id)}, RowKey{Table: TableCursor, ID: uint64(id)})
	}
	for id := range s.groups {
		keys = append(keys, RowKey{Table: TableGroup, ID: uint64(id)})
	}
	for id := range s.requests {
		keys = append(keys, RowKey{Table: TableRequest, ID: uint64(id)})
	}
	for n := range s.failed.byNumber {
		keys = append(keys, RowKey{Table: TableFailedRequest, ID: n})
	}
	for id := range s.letters.byID {
		keys = append(keys, RowKey{Table: TableDeadLetter, ID: id})
	}
	for k := range s.idempotency.byKey {
		keys = append(keys, k.row())
	}
	for name := range s.origins {
		keys = append(keys, RowKey{Table: TableOrigin, Name: name})
	}
	keys = s.blobKeys(keys)
	if s.gateway != nil {
		keys = append(keys, RowKey{Table: TableGateway})
	}
	for k := range s.taken.by {
		keys = append(keys, k.row())
	}
	for pattern := range s.callbacks {
		keys = append(keys, RowKey{Table: TableCallback, Name: pattern})
	}
	for id := range s.nodes {
		keys = append(keys, RowKey{Table: TableNode, Name: id})
	}
	for p, h := range s.holdings {
		if h.recorded() {
			keys = append(keys, RowKey{Table: TablePrincipal, Name: p})
		}
	}
	for _, one := range s.sessions.byID {
		keys = append(keys, RowKey{Table: TableSession, Name: string(one.id[:])})
	}
	keys = s.grantKeys(keys)
	keys = s.access.rowKeys(keys)
	slices.SortFunc(keys, func(a, b RowKey) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// Loader builds a State from stored rows, in any order.
type Loader struct {
	s       *State
	cursors map[SubscriptionID]Cursor
	blobs   []*hubpb.MessageBlobRow
	keys    []*idempotent
	limits  []*hubpb.PrincipalRow
}

// NewLoader returns a Loader without rows.
func NewLoader() *Loader {
	return &Loader{s: NewState(), cursors: map[SubscriptionID]Cursor{}}
}

// Add adds one row. Errors wrap ErrCorrupt and name the row.
func (l *Loader) Add(k RowKey, value []byte) error {
	if err := l.add(k, value); err != nil {
		return fmt.Errorf("row %d/%d %q: %w: %w", k.Table, k.ID, k.Name, ErrCorrupt, err)
	}
	return nil
}

func (l *Loader) add(k RowKey, value []byte) error {
	s := l.s
	switch k.Table { //nolint:exhaustive // the others are addSetting's
	case TableMeta:
		return proto.Unmarshal(value, &s.meta)
	case TableTopic:
		return decodeRow(value, s.loadTopic)
	case TableSubscription:
		return decodeRow(value, func(r *hubpb.SubscriptionRow) {
			sub := subscriptionFromRow(r)
			s.subs[sub.ID] = sub
			s.countKeyNotice(sub, 1)
		})
	case TableCursor:
		return decodeRow(value, func(r *hubpb.CursorRow) { l.cursors[SubscriptionID(k.ID)] = cursorFromRow(r) })
	case TableRequest:
		return decodeRow(value, func(r *hubpb.RequestRow) {
			req := requestFromRow(r)
			s.requests[req.ID] = req
			if req.Mode != ModeDenied {
				s.requestByKey[req.key()] = req.ID
				s.hold(req.Owner, func(h *holding) { h.requests++ })
			}
		})
	case TableDeadLetter:
		return decodeRow(value, func(r *hubpb.DeadLetterRow) {
			d := deadLetterFromRow(r)
			s.letters.insert(d)
			s.countLetter(d, 1)
		})
	case TableFailedRequest:
		return decodeRow(value, func(r *hubpb.FailedRequestRow) { s.failed.insert(failedRequestFromRow(r)) })
	case TableIdempotency:
		return decodeRow(value, func(r *hubpb.IdempotencyRow) {
			l.keys = append(l.keys, &idempotent{idempotencyKey: idempotencyKey{TopicID(r.Topic), string(r.Key)},
				contentHash: r.ContentHash, offset: r.Offset, at: r.At, owner: shared(r.Owner), number: r.Number})
		})
	case TableGroup:
		return decodeRow(value, func(r *hubpb.GroupRow) {
			g := groupFromRow(r)
			s.groups[g.id], s.groupByKey[groupKey{g.topic, g.name}] = g, g.id
		})
	case TableOrigin:
		return decodeRow(value, func(r *hubpb.OriginRow) { s.origins[r.Origin] = originFromRow(r) })
	case TablePendingBlob:
		return decodeRow(value, func(r *hubpb.PendingBlobRow) {
			s.pendingBlobs[k.Name] = &pendingBlob{parts: r.Parts, size: r.Size, at: r.At, owner: shared(r.Owner)}
			s.hold(r.Owner, func(h *holding) {
				h.uploads++
				h.stored += r.Size
			})
		})
	case TableMessageBlob:
		return decodeRow(value, func(r *hubpb.MessageBlobRow) { l.blobs = append(l.blobs, r) })
	}
	return l.addSetting(k, value)
}

// addSetting adds a row about the hub itself: the gateway, credentials, nodes and access.
func (l *Loader) addSetting(k RowKey, value []byte) error {
	s := l.s
	switch k.Table { //nolint:exhaustive // the others are add's
	case TableGateway:
		return decodeRow(value, func(r *hubpb.GatewayRow) { s.gateway = r })
	case TableFetched:
		of, ok := fetchedKeyOf(k)
		if !ok {
			return errors.New("its name is no offset")
		}
		return decodeRow(value, func(r *hubpb.SharedContentRow) { s.taken.put(of, r) })
	case TableGrant, TableDevice:
		return s.loadGrantRow(k, value)
	case TableSession:
		id, ok := sessionID([]byte(k.Name))
		if !ok {
			return errors.New("its name is no session's ID")
		}
		return decodeRow(value, func(r *hubpb.SessionRow) { s.loadSession(id, r) })
	case TableCallback:
		return decodeRow(value, func(r *hubpb.CallbackCredentialsRow) { s.callbacks[k.Name] = r })
	case TableNode:
		return decodeRow(value, func(r *hubpb.NodeRow) { s.nodes[r.Node] = nodeFromRow(r) })
	case TablePrincipal:
		return decodeRow(value, func(r *hubpb.PrincipalRow) { l.limits = append(l.limits, r) })
	case TableAPIKey, TableAccessRule, TableNonce, TableQuota:
		if err := s.access.load(k, value); err != nil || k.Table != TableAPIKey {
			return err
		}
		s.hold(s.access.keys[k.Name].GetKey().GetCaller().GetPrincipal(), func(h *holding) { h.apiKeys++ })
		return nil
	}
	return fmt.Errorf("unknown table %d", k.Table)
}

func (s *State) loadTopic(r *hubpb.TopicRow) {
	t := topicFromRow(r)
	s.topics[t.ID], s.topicByName[t.Name] = t, t.ID
	s.linkTopic(t)
	if t.Lifecycle != nil {
		s.marked[t.ID] = struct{}{}
	}
	s.noteContent(t)
}

// decodeRow decodes a row and passes it to use.
func decodeRow[R any, P interface {
	*R
	proto.Message
}](value []byte, use func(P)) error {
	r := P(new(R))
	if err := proto.Unmarshal(value, r); err != nil {
		return err
	}
	use(r)
	return nil
}

// State finishes loading: it rebuilds the indexes and checks that the rows are consistent. The Loader cannot be used
// afterwards. Errors wrap ErrCorrupt.
func (l *Loader) State() (*State, error) {
	s := l.s
	for _, id := range slices.Sorted(maps.Keys(s.subs)) {
		sub := s.subs[id]
		t := s.topics[sub.Topic]
		c, ok := l.cursors[id]
		if t == nil || !ok {
			return nil, fmt.Errorf("subscription %s lacks its topic or cursor row: %w", id, ErrCorrupt)
		}
		sub.TopicName, sub.Cursor = t.Name, c
		t.subscriptions = append(t.subscriptions, id)
		s.shareStrings(sub, t)
		s.hold(sub.Owner, func(h *holding) { h.subscriptions = append(h.subscriptions, id) })
		if g := s.groups[sub.Group]; g != nil {
			g.members = append(g.members, id)
			s.grouped++
		} else if sub.Group != 0 {
			return nil, fmt.Errorf("subscription %s lacks the row of its consumer group: %w", id, ErrCorrupt)
		} else {
			s.count(t, sub.Assignment.Node, 1)
		}
		s.subByKey[subscriptionKey{t.ID, sub.CallbackKey}] = id
	}
	if err := s.indexGroups(); err != nil {
		return nil, err
	}
	if err := l.addMessageBlobs(); err != nil {
		return nil, err
	}
	s.idempotency.load(l.keys)
	s.sessions.sort()
	for _, r := range l.limits {
		h := s.holdings[r.Owner]
		if h == nil {
			return nil, fmt.Errorf("principal %q has limits and owns nothing: %w", r.Owner, ErrCorrupt)
		}
		h.load(r)
	}
	return s, nil
}

func (s *State) indexGroups() error {
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		t := s.topics[g.topic]
		if t == nil || len(g.members) == 0 {
			return fmt.Errorf("consumer group %d lacks its topic or members: %w", id, ErrCorrupt)
		}
		t.groups = append(t.groups, id)
		s.count(t, g.Assignment.Node, 1)
	}
	return nil
}
