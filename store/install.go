package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Install replaces the store's content with a received snapshot: state, messages and position are then those of the
// snapshot. Anything applied but not flushed is dropped. Install waits for a flush in progress, but not for readers: they
// continue with the old files, and the last reader deletes them. Functions passed to OnInstall are called before Install
// returns. Failing to switch the files is a disk error.
func (s *Store) Install(in *Incoming) error {
	if in.gen == nil || in.store != s {
		return errors.New("install snapshot: already installed or discarded, or received by another store")
	}
	if s.closed.Load() {
		return ErrClosed
	}
	s.flushMu.Lock()
	err := s.installLocked(in)
	s.flushMu.Unlock()
	if err != nil {
		s.reportFailure()
		return fmt.Errorf("install snapshot: %w", err)
	}
	s.mu.RLock()
	callbacks := s.onInstall
	s.mu.RUnlock()
	for _, f := range callbacks {
		f()
	}
	return nil
}

// installLocked switches to a received generation. The caller holds flushMu.
func (s *Store) installLocked(in *Incoming) error {
	start := time.Now()
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.mu.RLock()
	failure := s.failure
	s.mu.RUnlock()
	if failure != nil {
		return failure
	}
	gen, content := in.gen, in.content
	if err := s.disk.makeCurrent(gen.dir, gen.number); err != nil {
		return s.recordFailure(err)
	}
	gen.dir = filepath.Join(s.opts.Dir, generationName(gen.number))
	gen.state.path = filepath.Join(gen.dir, stateFile)
	for _, seg := range content.segments {
		seg.file.path = filepath.Join(gen.dir, segmentName(seg.number))
	}
	in.gen, in.content = nil, nil

	s.mu.Lock()
	old := s.gen
	s.log.mu.RLock()
	oldSegments := s.log.segments
	s.log.mu.RUnlock()
	s.takeLocked(gen, content)
	s.applyErr = nil
	s.advanceLocked()
	s.mu.Unlock()

	old.removed.Store(true)
	if err := old.release(oldSegments); err != nil {
		s.opts.Logger.Warn("cannot close the files of the old generation", "error", err)
	}
	s.opts.Logger.Info("snapshot installed", "generation", gen.number, "index", gen.meta.position.Index, "took", time.Since(start))
	return nil
}

// OnInstall adds a function that is called after each Install, when everything read from the store before is outdated. It
// is called on Install's goroutine and must not call Apply or Install.
func (s *Store) OnInstall(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onInstall = append(s.onInstall, f)
}
