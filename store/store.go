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

	"quorumhub/hub"
)

// Store is the state and the message log of one node. See the package comment.
//
// Apply, Witness and Install are called by one goroutine, raft's; everything else is safe for concurrent use.
type Store struct {
	opts Options
	disk disk
	log  *messageLog

	// applyMu orders Apply, Witness, Install and the moment a flush takes what it will write. Whoever holds
	// it and mu for reading sees a state that stands still, while readers go on.
	applyMu  sync.Mutex
	pending  []hub.Message // applied since the last flush began
	applyErr error

	mu        sync.RWMutex // guards the fields below
	state     *hub.State
	applied   Position
	version   uint64 // counts changes of state and position; decides what needs a flush
	durable   Position
	flushed   uint64        // version that the files hold
	progress  chan struct{} // closed and replaced when flushed, failure or closed change
	failure   error
	gen       *generation
	observers []hub.Observer
	onInstall []func()
	lastGen   uint64 // highest generation number given

	// flushMu keeps flushes, Install and the begin of a Snapshot apart: what they read of the files, and
	// which files they are, must not change under them.
	flushMu sync.Mutex

	closed    atomic.Bool
	trimmed   atomic.Bool // segments may hold nothing retained any more
	unflushed atomic.Int64
	wake      chan struct{} // something changed
	urgent    chan struct{} // flush now
	stop      chan struct{}
	stopOnce  sync.Once
	stopped   sync.WaitGroup
	failOnce  sync.Once
	damaged   sync.Map // files whose damage was told

	snapshots snapshots
	figures   figures
}

var _ hub.StateReader = (*Store)(nil)

// Open opens the store in opts.Dir; an empty directory becomes a store at position 0. A file that is
// damaged or missing is a *CorruptError: a store never starts with less than it had.
func Open(opts Options) (*Store, error) {
	if opts.Dir == "" {
		return nil, errors.New("open store: no directory given")
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
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), stop: make(chan struct{}),
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
		return nil, nil, corrupt(filepath.Join(dir, currentFile), "it names %s, which does not exist", generationName(number))
	}
	// The lock on the state file keeps a second process from sweeping away what this one makes.
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

// checkFresh refuses a directory without CURRENT that holds a generation with content. The first start
// may have been cut short between making its empty generation and CURRENT.
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
			return corrupt(filepath.Join(s.opts.Dir, currentFile), "the file is missing, though %s holds data", e.Name())
		}
		if err := os.RemoveAll(g.dir); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes dir and its missing parents, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
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
	s.log.load(c.topics, c.segments, c.active)
}

// View implements hub.StateReader.
func (s *Store) View(f func(*hub.State)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f(s.state)
}

// Applied is the position of the state in memory.
func (s *Store) Applied() Position {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// Durable is the position of the state in the files. Raft's log is needed from behind it on.
func (s *Store) Durable() Position {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.durable
}

// Overloaded tells that more is waiting to be written than MaxUnflushedBytes, or that nothing is written
// any more. Apply works on, but new work should be refused.
func (s *Store) Overloaded() bool {
	if s.unflushed.Load() > s.opts.MaxUnflushedBytes {
		return true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failure != nil
}

// Close flushes, ends open snapshots, and closes all files. The error is that of the flush.
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

// Crash closes the store without a flush, as the sudden end of the process would; what is not durable is lost.
func (s *Store) Crash() error {
	if err := s.shutdown(); err != nil {
		return err
	}
	return s.closeFiles()
}

// shutdown ends the flusher and all use but a last flush.
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
	<-gen.closed // reads under way are short, snapshots were ended
	return err
}

// advanceLocked wakes whoever waits in Flush. The caller holds mu.
func (s *Store) advanceLocked() {
	close(s.progress)
	s.progress = make(chan struct{})
}

// recordFailure takes note of the first error of the disk, after which nothing is written. The caller holds
// flushMu, and calls reportFailure when it does not any more.
func (s *Store) recordFailure(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = fmt.Errorf("%w: %w", ErrFailed, err)
		s.advanceLocked()
	}
	return s.failure
}

// reportFailure tells Options.Fatal, once.
func (s *Store) reportFailure() {
	s.failOnce.Do(func() {
		s.mu.RLock()
		err := s.failure
		s.mu.RUnlock()
		s.opts.Logger.Error("the disk can no longer be trusted; nothing is written any more", "error", err)
		s.opts.Fatal(err)
	})
}

// Flush returns when everything applied at the call is durable. Errors wrap ErrFailed after a disk error,
// or are ErrClosed or the context's.
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

// runFlusher flushes FlushInterval after the first change, or when it is urgent.
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
			return // failed: nothing is written any more
		}
	}
}
