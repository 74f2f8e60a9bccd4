package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/durable"
	"quorumhub/hub"
)

// Store holds the state and the message log of one node; see the package comment.
//
// Only one goroutine, raft's, may call Apply, Witness and Install. Everything else is safe for concurrent use.
type Store struct {
	opts Options
	disk disk
	log  *messageLog

	// applyMu serializes Apply, Witness, Install and the moment a flush takes what it will write. Holding it together with mu
	// for reading keeps the state unchanged while other readers continue.
	applyMu  sync.Mutex
	pending  []hub.Message // applied since the last flush began
	applyErr error

	mu        sync.RWMutex // guards the fields below
	state     *hub.State
	applied   Position
	version   uint64 // counts changes of state and position; decides whether to flush
	durable   Position
	flushed   uint64        // version in the files
	progress  chan struct{} // closed and replaced when flushed, failure or closed changes
	failure   error
	gen       *generation
	observers []hub.Observer
	onInstall []func()
	lastGen   uint64 // highest generation number used

	// flushMu separates flushes, Install and the start of a Snapshot: the files' content, and which files are current, must
	// not change under them.
	flushMu sync.Mutex

	closed    atomic.Bool
	trimmed   atomic.Bool // some segments may have no retained messages left
	unflushed atomic.Int64
	wake      chan struct{} // something changed
	urgent    chan struct{} // flush now
	grown     chan struct{} // see Grown
	stop      chan struct{}
	stopOnce  sync.Once
	stopped   sync.WaitGroup
	failOnce  sync.Once
	damaged   sync.Map // files whose damage was reported

	snapshots snapshots
	figures   figures
}

var _ hub.StateReader = (*Store)(nil)

// Open opens the store in opts.Dir. An empty directory becomes a store at position 0. A damaged or missing file is a
// *CorruptError: a store never opens with less than it had.
func Open(opts Options) (*Store, error) {
	if opts.Dir == "" {
		return nil, errors.New("open store: Options.Dir is empty")
	}
	s := newStore(opts)
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// newStore assembles a store that has opened nothing yet.
func newStore(opts Options) *Store {
	s := &Store{
		opts: opts.withDefaults(), progress: make(chan struct{}),
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), grown: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	s.disk = localDisk{&s.opts}
	s.log = &messageLog{limit: s.opts.TailBytes}
	return s
}

// start opens the files and starts the store's goroutines.
func (s *Store) start() error {
	gen, content, err := s.open()
	if err != nil {
		return err
	}
	s.lastGen = gen.number
	s.takeLocked(gen, content)
	if err := s.unlinkDead(gen, s.deadSegments()); err != nil {
		return errors.Join(err, gen.release(s.log.segments))
	}
	segments := s.scrubbed()
	s.stopped.Add(2)
	go s.runFlusher()
	go s.runScrub(segments)
	return nil
}

func (s *Store) open() (*generation, *content, error) {
	dir := s.opts.Dir
	if err := makeDir(dir); err != nil {
		return nil, nil, err
	}
	number, err := readCurrent(dir)
	if errors.Is(err, os.ErrNotExist) {
		number = 1
		if err = s.checkFresh(); err == nil {
			err = s.opts.createGeneration(number)
		}
	}
	if err == nil {
		err = s.opts.checkMark()
	}
	if err != nil {
		return nil, nil, err
	}
	gen := filepath.Join(dir, generationName(number))
	if _, err := os.Stat(gen); errors.Is(err, os.ErrNotExist) {
		return nil, nil, corrupt(filepath.Join(dir, currentFile), "the file names %s, which does not exist", generationName(number))
	}
	// The lock on the state file keeps another process from sweeping away what this one creates.
	g, content, err := s.opts.openGeneration(gen, number)
	if err != nil {
		return nil, nil, err
	}
	err = sweep(dir, number)
	if err == nil {
		err = removeUnfinished(gen)
	}
	if err != nil {
		return nil, nil, errors.Join(err, g.release(content.segments))
	}
	return g, content, nil
}

// checkFresh refuses a directory without CURRENT that holds a generation with content. The first start may have been
// interrupted between creating its empty generation and CURRENT.
func (s *Store) checkFresh() error {
	entries, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := parseGenerationName(e.Name())
		if !ok {
			continue
		}
		g, content, err := s.opts.openGeneration(filepath.Join(s.opts.Dir, e.Name()), number)
		if err != nil {
			return err
		}
		empty := g.meta.position.Index == 0 && g.meta.rows == 0
		if err := g.release(content.segments); err != nil {
			return err
		}
		if !empty {
			return corrupt(filepath.Join(s.opts.Dir, currentFile), "the file is missing, but %s holds data", e.Name())
		}
		if err := os.RemoveAll(g.dir); err != nil {
			return err
		}
	}
	return nil
}

// makeDir durably creates dir and its missing parents.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(filepath.Clean(dir)))
}

// takeLocked makes an opened generation the one in use. The caller holds applyMu, mu and flushMu.
func (s *Store) takeLocked(g *generation, c *content) {
	s.gen, s.state = g, c.state
	s.applied, s.durable = g.meta.position, g.meta.position
	s.version++
	s.flushed = s.version
	s.pending = nil
	s.trimmed.Store(true)
	s.unflushed.Store(0)
	s.log.load(c)
}

// View implements hub.StateReader.
func (s *Store) View(f func(*hub.State)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f(s.state)
}

// Applied returns the position of the state in memory.
func (s *Store) Applied() Position {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// AppliedHash returns the index of the last applied entry and the state's rolling hash after it (hub.State.Hash), which belong together
// however fast entries are applied.
func (s *Store) AppliedHash() (index, hash uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied.Index, s.state.Hash()
}

// Durable returns the position of the state in the files. Raft's log is needed only beyond it.
func (s *Store) Durable() Position {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.durable
}

// Overloaded reports whether more than MaxUnflushedBytes are waiting to be written, or the store has stopped writing after a
// failure. Apply still works, but new work should be refused.
func (s *Store) Overloaded() bool {
	if s.unflushed.Load() > s.opts.MaxUnflushedBytes {
		return true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failure != nil
}

// Close flushes, ends open snapshots and closes all files. It returns the flush's error.
func (s *Store) Close() error {
	err := s.shutdown()
	if !errors.Is(err, ErrClosed) {
		s.mu.RLock()
		failure := s.failure
		s.mu.RUnlock()
		if failure == nil {
			err = s.flush()
		} else {
			err = failure
		}
		err = errors.Join(err, s.closeFiles())
	}
	return err
}

// Crash closes the store without a flush, as a crash of the process would: what is not durable is lost.
func (s *Store) Crash() error {
	if err := s.shutdown(); err != nil {
		return err
	}
	return s.closeFiles()
}

// shutdown stops the store's goroutines.
func (s *Store) shutdown() error {
	err := ErrClosed
	s.stopOnce.Do(func() {
		err = nil
		close(s.stop)
		s.stopped.Wait()
	})
	return err
}

func (s *Store) closeFiles() error {
	s.closed.Store(true)
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.snapshots.abort(ErrClosed)
	s.mu.Lock()
	s.advanceLocked()
	gen := s.gen
	s.mu.Unlock()
	s.log.mu.Lock()
	segments := s.log.segments
	s.log.segments, s.log.active, s.log.topics = nil, nil, nil
	s.log.mu.Unlock()
	err := gen.release(segments)
	<-gen.closed // reads in progress are short, snapshots have ended
	return err
}

// advanceLocked wakes callers waiting in Flush. The caller holds mu.
func (s *Store) advanceLocked() {
	close(s.progress)
	s.progress = make(chan struct{})
}

// recordFailure records the first disk error, after which nothing more is written. The caller holds flushMu, and calls
// reportFailure after releasing it.
func (s *Store) recordFailure(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = fmt.Errorf("%w: %w", ErrFailed, err)
		s.advanceLocked()
	}
	return s.failure
}

// reportFailure calls Options.Fatal, once.
func (s *Store) reportFailure() {
	s.failOnce.Do(func() {
		s.mu.RLock()
		err := s.failure
		s.mu.RUnlock()
		s.opts.Logger.Error("the disk can no longer be trusted; the store has stopped writing", "error", err)
		s.opts.Fatal(err)
	})
}

// Flush returns once everything applied before the call is durable. The error wraps ErrFailed after a disk error, or is
// ErrClosed or ctx's.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.RLock()
	target := s.version
	s.mu.RUnlock()
	for {
		s.mu.RLock()
		flushed, failure, closed, progress := s.flushed, s.failure, s.closed.Load(), s.progress
		s.mu.RUnlock()
		switch {
		case failure != nil:
			return failure
		case flushed >= target:
			return nil
		case closed:
			return ErrClosed
		}
		signal(s.urgent)
		select {
		case <-progress:
		case <-s.stop:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("flush: %w", ctx.Err())
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runFlusher flushes FlushInterval after the first change, or at once when signalled to.
func (s *Store) runFlusher() {
	defer s.stopped.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-s.urgent:
		case <-s.wake:
			timer := time.NewTimer(s.opts.FlushInterval)
			select {
			case <-s.stop:
				timer.Stop()
				return
			case <-s.urgent:
				timer.Stop()
			case <-timer.C:
			}
		}
		if err := s.flush(); err != nil {
			return // nothing more may be written
		}
	}
}
