package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/hashicorp/raft"

	"quorumhub/store"
)

// currentSnapshot is the ID of the only snapshot a node has: the store's files as they are.
const currentSnapshot = "store"

// snapshotStore presents the store's files to raft as its snapshot. There is no second copy of the state.
//
// Create returns a sink for two purposes. Raft's own snapshot never writes to its sink: persister does the work, by making
// the store durable up to the snapshot's index. A snapshot from the leader is written to its sink, which receives it into
// a generation of its own; Open then hands it to fsm.Restore.
type snapshotStore struct {
	store engine

	mu       sync.Mutex
	received map[string]*store.Incoming
	next     int

	installing *activity
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

func newSnapshotStore(s engine, installing *activity) *snapshotStore {
	return &snapshotStore{store: s, installing: installing, received: map[string]*store.Incoming{}}
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapshotSink{store: s, meta: raft.SnapshotMeta{
		Version: version, ID: currentSnapshot, Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

// List implements raft.SnapshotStore. Raft replays its log from behind the index, so the index is that of the files, never
// that of the memory.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	pos := s.store.Durable()
	if pos.Index == 0 {
		return nil, nil
	}
	meta, err := snapshotMeta(pos)
	if err != nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{meta}, nil
}

func snapshotMeta(pos store.Position) (*raft.SnapshotMeta, error) {
	meta := &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: currentSnapshot,
		Index: pos.Index, Term: pos.Term, ConfigurationIndex: pos.ConfigurationIndex,
	}
	if len(pos.Configuration) > 0 {
		c, err := decodeConfiguration(pos.Configuration)
		if err != nil {
			return nil, err
		}
		meta.Configuration = c
	}
	return meta, nil
}

// decodeConfiguration is raft.DecodeConfiguration, returning an error where that panics.
func decodeConfiguration(data []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raft configuration in the store: %v", p)
		}
	}()
	return raft.DecodeConfiguration(data), nil
}

// Open implements raft.SnapshotStore. Index and bytes come from one read transaction of the store.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id != currentSnapshot {
		return s.openReceived(id)
	}
	snap, err := s.store.Snapshot(context.Background())
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot: %w", err)
	}
	meta, err := snapshotMeta(snap.Position)
	if err != nil {
		return nil, nil, errors.Join(err, snap.Close())
	}
	meta.Size = snap.Size
	return meta, snap, nil
}

func (s *snapshotStore) openReceived(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	in := s.received[id]
	s.mu.Unlock()
	if in == nil {
		return nil, nil, fmt.Errorf("unknown snapshot %q", id)
	}
	meta, err := snapshotMeta(in.Position)
	if err != nil {
		return nil, nil, err
	}
	meta.ID = id
	return meta, &incoming{store: s, id: id, snapshot: in}, nil
}

func (s *snapshotStore) keep(in *store.Incoming) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := "received-" + strconv.Itoa(s.next)
	s.received[id] = in
	return id
}

// discard deletes a received snapshot unless it was installed.
func (s *snapshotStore) discard(id string) error {
	s.mu.Lock()
	in := s.received[id]
	delete(s.received, id)
	s.mu.Unlock()
	if in == nil {
		return nil
	}
	return in.Discard()
}

// incoming is a received snapshot on its way to fsm.Restore. Its bytes are already in their files.
type incoming struct {
	store    *snapshotStore
	id       string
	snapshot *store.Incoming
}

func (i *incoming) Read([]byte) (int, error) { return 0, io.EOF }

// Close deletes the snapshot if it was not installed.
func (i *incoming) Close() error {
	defer i.store.installing.end()
	return i.store.discard(i.id)
}

// snapshotSink implements raft.SnapshotSink.
type snapshotSink struct {
	store *snapshotStore
	meta  raft.SnapshotMeta
	pipe  *io.PipeWriter // nil until the first Write
	done  chan struct{}  // closed when in and err are set
	in    *store.Incoming
	err   error
}

func (s *snapshotSink) ID() string { return s.meta.ID }

// announced describes the snapshot as raft or the leader announced it.
func (s *snapshotSink) announced() *raft.SnapshotMeta { return &s.meta }

func (s *snapshotSink) Write(p []byte) (int, error) {
	s.store.installing.begin()
	if s.pipe == nil {
		r, w := io.Pipe()
		s.pipe, s.done = w, make(chan struct{})
		go func() {
			defer close(s.done)
			s.in, s.err = s.store.store.Receive(r)
			// If Receive ended early, Write must not wait for a reader.
			r.CloseWithError(errors.Join(s.err, io.ErrClosedPipe))
		}()
	}
	return s.pipe.Write(p)
}

// Close completes the snapshot: fully received, durable, and at the announced index.
func (s *snapshotSink) Close() error {
	if s.pipe == nil {
		return nil
	}
	s.pipe.Close()
	<-s.done
	s.store.installing.begin()
	if s.err != nil {
		s.store.installing.end()
		return fmt.Errorf("receive snapshot: %w", s.err)
	}
	pos := s.in.Position
	if pos.Index != s.meta.Index || pos.Term != s.meta.Term {
		s.store.installing.end()
		return errors.Join(fmt.Errorf("receive snapshot: announced for entry %d of term %d, but its files are at entry %d of term %d",
			s.meta.Index, s.meta.Term, pos.Index, pos.Term), s.in.Discard())
	}
	s.meta.ID = s.store.keep(s.in)
	return nil
}

// Cancel implements raft.SnapshotSink.
func (s *snapshotSink) Cancel() error {
	if s.pipe == nil {
		return nil
	}
	defer s.store.installing.end()
	s.pipe.CloseWithError(errors.New("snapshot was cancelled"))
	<-s.done
	if s.in == nil {
		return nil
	}
	return s.in.Discard()
}

// persister implements raft.FSMSnapshot.
type persister struct{ node *Node }

// Persist makes the store durable up to the snapshot's index. Raft then compacts its log up to there.
func (p persister) Persist(sink raft.SnapshotSink) error {
	s, ok := sink.(interface{ announced() *raft.SnapshotMeta })
	if !ok {
		return fmt.Errorf("persist to a %T", sink)
	}
	n, meta := p.node, s.announced()
	n.tuneTrailing()
	n.log.snapshotTaken()
	// Raft's own entries (no-ops, barriers) never reach the fsm, so the snapshot may be ahead of the store. Configurations
	// do reach it. Index 1 would mean a configuration forced by a recovery, which this is not: raft read its configuration
	// a moment ago, and the fsm may have applied a newer one since.
	var configuration []byte
	if meta.ConfigurationIndex > 1 {
		configuration = raft.EncodeConfiguration(meta.Configuration)
	}
	n.engine.Witness(meta.Index, meta.Term, configuration, meta.ConfigurationIndex)
	if err := n.engine.Flush(n.ctx); err != nil {
		return fmt.Errorf("flush the store for a snapshot at entry %d: %w", meta.Index, err)
	}
	if d := n.engine.Durable(); d.Index < meta.Index {
		return fmt.Errorf("the store is durable only up to entry %d, but the snapshot is at entry %d", d.Index, meta.Index)
	}
	return nil
}

// Release implements raft.FSMSnapshot.
func (persister) Release() {}
