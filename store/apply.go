package store

import (
	"bytes"
	"fmt"

	"quorumhub/hub"
)

// Observe adds an observer. It must be called before the first Apply.
func (s *Store) Observe(o hub.Observer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers = append(s.observers, o)
}

// Apply applies committed entries to the state, in memory only. It returns one list of results per entry, nil for a
// configuration. Observers get one merged Effects per call, after all of it is visible.
//
// Indexes must increase and be above the position (ErrNotIncreasing). After an error the entries before the faulty one are
// applied; nothing more can be applied, and every later call returns the same error. It wraps hub.ErrCorrupt for a
// damaged entry, ErrFailed after a disk error.
func (s *Store) Apply(entries []Entry) ([][]hub.BatchResult, error) {
	s.applyMu.Lock()
	if err := s.canApply(); err != nil {
		s.applyMu.Unlock()
		return nil, err
	}
	out := make([][]hub.BatchResult, 0, len(entries))
	fx := new(hub.Effects)
	var size int64
	var err error
	for i := range entries {
		var results []hub.BatchResult
		if results, err = s.applyEntry(&entries[i], fx); err != nil {
			s.applyErr = err
			break
		}
		out = append(out, results)
		size += int64(len(entries[i].Data))
	}
	s.pending = append(append(s.pending, fx.Parts...), fx.Messages...)
	unflushed := s.unflushed.Add(size)
	s.mu.RLock()
	observers := s.observers
	s.mu.RUnlock()
	s.applyMu.Unlock()

	if unflushed >= s.opts.FlushBytes {
		signal(s.urgent)
	} else {
		signal(s.wake)
	}
	for _, o := range observers {
		o.Applied(fx)
	}
	return out, err
}

func (s *Store) canApply() error {
	if s.applyErr != nil {
		return s.applyErr
	}
	if s.closed.Load() {
		return ErrClosed
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failure
}

// applyEntry holds the lock for one entry only, so that readers are not blocked for long.
func (s *Store) applyEntry(e *Entry, fx *hub.Effects) ([]hub.BatchResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Index <= s.applied.Index {
		return nil, fmt.Errorf("apply entry %d: %w: the position is %d", e.Index, ErrNotIncreasing, s.applied.Index)
	}
	var results []hub.BatchResult
	if e.Configuration {
		s.applied.Configuration, s.applied.ConfigurationIndex = bytes.Clone(e.Data), e.Index
	} else {
		messages, parts, trims, removed := len(fx.Messages), len(fx.Parts), len(fx.Trims), len(fx.RemovedTopics)
		fx.DroppedParts, fx.PartsReleased = 0, false
		var err error
		if results, err = s.state.ApplyAt(e.Index, e.Data, fx); err != nil {
			return nil, fmt.Errorf("apply entry %d: %w", e.Index, err)
		}
		if len(fx.Parts) > parts {
			s.log.append(fx.Parts[parts:])
		}
		if fx.DroppedParts > 0 {
			s.log.trim(partsTopic, fx.DroppedParts)
			s.trimmed.Store(true)
		}
		if fx.PartsReleased {
			s.trimmed.Store(true)
		}
		if len(fx.Messages) > messages {
			s.log.append(fx.Messages[messages:])
		}
		for _, t := range fx.Trims[trims:] {
			s.log.trim(t.Topic, t.Through)
			s.trimmed.Store(true)
		}
		for _, id := range fx.RemovedTopics[removed:] {
			s.log.remove(id)
			s.trimmed.Store(true)
		}
	}
	s.applied.Index, s.applied.Term = e.Index, e.Term
	s.version++
	return results, nil
}

// Witness records what raft did without an Apply: no-ops and barriers advance the index, and a configuration may be known
// from elsewhere. The index never decreases. A configuration is accepted if it is newer than the stored one, or if its
// index is 1, which marks a configuration forced by a recovery.
func (s *Store) Witness(index, term uint64, configuration []byte, configurationIndex uint64) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	if index > s.applied.Index {
		s.applied.Index, s.applied.Term = index, term
		changed = true
	}
	newer := configurationIndex > s.applied.ConfigurationIndex || configurationIndex == 1
	same := configurationIndex == s.applied.ConfigurationIndex && bytes.Equal(configuration, s.applied.Configuration)
	if len(configuration) > 0 && newer && !same {
		s.applied.Configuration, s.applied.ConfigurationIndex = bytes.Clone(configuration), configurationIndex
		changed = true
	}
	if changed {
		s.version++
		signal(s.wake)
	}
}
