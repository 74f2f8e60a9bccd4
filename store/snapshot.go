package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// Snapshot is a stream of the store's files as of one position, for Receive. Until Close its files are kept and their pages
// are not reused, so it should be read promptly.
type Snapshot struct {
	Position  Position
	ClusterID string
	StateHash uint64    // rolling hash at Position
	LogTime   time.Time // newest leader's time in the log
	Level     uint32    // feature level of the cluster, 0 before it has one
	Size      int64     // exact number of bytes that Read returns
	io.ReadCloser
}

// snapshots tracks the open snapshots.
type snapshots struct {
	mu   sync.Mutex
	open map[*snapshotReader]struct{}
}

func (l *snapshots) add(r *snapshotReader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[*snapshotReader]struct{}{}
	}
	l.open[r] = struct{}{}
}

func (l *snapshots) remove(r *snapshotReader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, r)
}

// abort ends all snapshots; their readers get err.
func (l *snapshots) abort(err error) {
	l.mu.Lock()
	var all []*snapshotReader
	for r := range l.open {
		all = append(all, r)
	}
	l.mu.Unlock()
	for _, r := range all {
		r.end(err)
	}
}

func (l *snapshots) figures() (n int, oldest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.open {
		oldest = max(oldest, time.Since(r.began))
	}
	return len(l.open), oldest
}

// pinnedFile is a file with a read transaction that fixes its content.
type pinnedFile struct {
	name string
	file *boltFile
	tx   *bbolt.Tx
}

// Snapshot begins a snapshot of what is durable. Its position and its bytes come from the same read transaction. If ctx
// ends, Read returns its error.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	m, pinned, err := s.pin()
	if err != nil {
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	return s.sendPinned(ctx, m, pinned)
}

// sendPinned makes a snapshot of pinned files. It releases them.
func (s *Store) sendPinned(ctx context.Context, m *manifest, pinned []pinnedFile) (*Snapshot, error) {
	state, err := readHead(pinned[0])
	if err != nil {
		unpin(pinned)
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	header, err := m.header()
	if err != nil {
		unpin(pinned)
		return nil, err
	}
	pr, pw := io.Pipe()
	r := &snapshotReader{PipeReader: pr, began: time.Now(), done: make(chan struct{})}
	r.release = func() { s.snapshots.remove(r) }
	r.cancel = func(err error) { pw.CloseWithError(err) }
	r.stopWatch = context.AfterFunc(ctx, func() { r.cancel(context.Cause(ctx)) })
	s.snapshots.add(r)
	go func() {
		defer close(r.done)
		defer unpin(pinned)
		pw.CloseWithError(sendFiles(pw, header, pinned))
	}()
	if s.closed.Load() {
		r.end(ErrClosed) // Close has already ended the others
		return nil, ErrClosed
	}
	return &Snapshot{Position: m.Position, ClusterID: state.ClusterID(), StateHash: state.Hash(), LogTime: state.Now(), Level: state.FeatureLevel(),
		Size: m.size(header), ReadCloser: r}, nil
}

// readHead reads the state's own row from a pinned state file: cluster ID, hash, time and level.
func readHead(p pinnedFile) (state *hub.State, err error) {
	err = p.file.guarded(func() error {
		rows, err := bucket(p.file.path, p.tx, bucketRows)
		if err != nil {
			return err
		}
		loader, key := hub.NewLoader(), hub.RowKey{Table: hub.TableMeta}
		k := key.Append(nil)
		if stored := rows.Get(k); stored != nil { // missing before the first entry
			v, ok := unseal(k, stored)
			if !ok {
				return corrupt(p.file.path, "row %x does not match its checksum", k)
			}
			if err := loader.Add(key, v); err != nil {
				return corrupt(p.file.path, "%v", err)
			}
		}
		state, err = loader.State()
		return err
	})
	return state, err
}

// pin begins a read transaction on each file. No flush runs in between, so the segments match the state file.
func (s *Store) pin() (m *manifest, pinned []pinnedFile, err error) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.mu.RLock()
	gen, failure, clusterID := s.gen, s.failure, s.state.ClusterID()
	s.mu.RUnlock()
	if s.closed.Load() {
		return nil, nil, ErrClosed
	}
	if failure != nil {
		return nil, nil, failure
	}
	s.log.mu.RLock()
	segments := slices.Clone(s.log.segments) // only the flusher drops segments
	s.log.mu.RUnlock()
	m = &manifest{Format: formatVersion, ClusterID: clusterID}
	pin := func(name string, file *boltFile) error {
		tx, err := file.begin()
		if err != nil {
			return err
		}
		file.acquire()
		pinned = append(pinned, pinnedFile{name, file, tx})
		m.Files = append(m.Files, manifestFile{Name: name, Size: tx.Size()})
		return nil
	}
	defer func() {
		if err != nil {
			unpin(pinned)
		}
	}()
	if err := pin(stateFile, gen.state); err != nil {
		return nil, nil, err
	}
	for _, seg := range segments {
		if err := pin(filepath.ToSlash(segmentName(seg.number)), seg.file); err != nil {
			return nil, nil, err
		}
	}
	err = gen.state.guarded(func() error {
		meta, err := readMeta(gen.state.path, pinned[0].tx)
		m.Position = meta.position
		return err
	})
	return m, pinned, err
}

func unpin(pinned []pinnedFile) {
	for _, p := range pinned {
		_ = p.tx.Rollback() // only ends the reading
		_ = p.file.release()
	}
}

func sendFiles(w io.Writer, header []byte, pinned []pinnedFile) error {
	buf := bufio.NewWriterSize(w, 256<<10)
	if _, err := buf.Write(header); err != nil {
		return err
	}
	for _, p := range pinned {
		sum := xxhash.New()
		n, err := p.tx.WriteTo(io.MultiWriter(buf, sum))
		if err != nil {
			return fmt.Errorf("send %s: %w", p.file.path, err)
		}
		if n != p.tx.Size() {
			return corrupt(p.file.path, "the file is truncated: %d bytes of %d are left", n, p.tx.Size())
		}
		if _, err := buf.Write(binary.BigEndian.AppendUint64(nil, sum.Sum64())); err != nil {
			return err
		}
	}
	return buf.Flush()
}

// snapshotReader is the reading end of a snapshot. The writing goroutine holds the transactions and ends with it.
type snapshotReader struct {
	*io.PipeReader
	began     time.Time
	done      chan struct{}
	cancel    func(error) // makes Read return the error
	stopWatch func() bool
	release   func()
	once      sync.Once
}

// Close ends the snapshot and waits until its files are released.
func (r *snapshotReader) Close() error {
	r.end(io.ErrClosedPipe)
	return r.PipeReader.Close()
}

func (r *snapshotReader) end(err error) {
	r.once.Do(func() {
		r.stopWatch()
		r.cancel(err)
		r.release()
	})
	<-r.done
}
