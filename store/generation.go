package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"quorumhub/durable"
	"quorumhub/hub"
)

const stateFile = "state.db"

// stateMmapBytes is address space, not memory. If the map were too small, the flusher would wait for readers.
const stateMmapBytes = 1 << 30

// generation is one set of files. Its fields do not change, except meta, which the flusher updates, and dir, which changes
// when a received generation becomes current. Once it is current, its segments are in messageLog.
type generation struct {
	number uint64
	dir    string
	state  *boltFile
	meta   stateMeta

	stateBytes  atomic.Int64  // bytes of state.db in use
	nextSegment uint64        // used by the flusher only
	open        atomic.Int64  // number of open files
	removed     atomic.Bool   // closing the last file removes the directory
	closed      chan struct{} // closed after the last file
	problem     func(error)   // receives an error from that
}

// content is what opening a generation reads from its files.
type content struct {
	state    *hub.State
	topics   map[hub.TopicID]*topicLog
	segments []*segment
	active   *segment
	kept     map[uint64]struct{} // parts of blobs in state.db
}

func (o *Options) stateBolt(readOnly bool) boltOptions {
	return boltOptions{readOnly: readOnly, mmapBytes: stateMmapBytes, lockTimeout: o.LockTimeout}
}

// createGeneration creates an empty generation in an empty Dir and makes it current.
func (o *Options) createGeneration(number uint64) error {
	tmp := filepath.Join(o.Dir, tmpPrefix+generationName(number))
	if err := makeGenerationDir(tmp); err != nil {
		return err
	}
	path := filepath.Join(tmp, stateFile)
	err := createBolt(path, o.stateBolt(false), func(tx *bbolt.Tx) error {
		meta, err := putFormat(tx)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket([]byte(bucketRows)); err != nil {
			return err
		}
		key := []byte(positionKey)
		return meta.Put(key, seal(key, (&stateMeta{}).encode()))
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return o.makeCurrent(tmp, number)
}

// makeCurrent gives a complete generation directory its name and switches CURRENT to it.
func (o *Options) makeCurrent(tmp string, number uint64) error {
	if err := durable.SyncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(o.Dir, generationName(number))); err != nil {
		return err
	}
	if err := durable.SyncDir(o.Dir); err != nil {
		return err
	}
	return writeCurrent(o.Dir, number)
}

// openGeneration opens all files in dir and loads the state.
func (o *Options) openGeneration(dir string, number uint64) (*generation, *content, error) {
	g := &generation{number: number, dir: dir, nextSegment: 1, closed: make(chan struct{})}
	g.problem = func(err error) {
		o.Logger.Warn("cannot delete the files of an old generation; they are deleted at the next start", "dir", dir, "error", err)
	}
	path := filepath.Join(dir, stateFile)
	state, err := openBolt(path, o.stateBolt(false))
	if err != nil {
		return nil, nil, err
	}
	g.state = state
	g.own(state)
	g.stateBytes.Store(state.used())
	c := &content{}
	if c.state, g.meta, err = loadState(state); err == nil {
		if c.segments, err = o.openSegments(dir); err == nil {
			for _, seg := range c.segments {
				g.own(seg.file)
				g.nextSegment = seg.number + 1
				if !seg.sealed {
					c.active = seg
				}
			}
			if c.kept, err = keptParts(state, nil); err == nil {
				c.topics, err = indexTopics(filepath.Join(dir, logDir), c.state, c.segments, c.kept)
			}
			if err == nil && c.active != nil && c.active.runsAhead(c.topics) {
				c.active.sealed, c.active = true, nil
			}
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, g.release(c.segments))
	}
	return g, c, nil
}

// runsAhead reports whether a crash left messages in the segment that the state does not know yet. They are written again,
// perhaps to several segments: added to these, a range would have holes.
func (seg *segment) runsAhead(topics map[hub.TopicID]*topicLog) bool {
	for id, r := range seg.ranges {
		if t := topics[id]; t != nil && r.hi > t.head {
			return true
		}
	}
	return false
}

// own registers an open file of the generation.
func (g *generation) own(file *boltFile) {
	g.open.Add(1)
	file.onClose = func() {
		if g.open.Add(-1) > 0 {
			return
		}
		if g.removed.Load() {
			if err := os.RemoveAll(g.dir); err != nil {
				g.problem(err)
			}
		}
		close(g.closed)
	}
}

// release gives up the owner's references. The last reader of a file closes it.
func (g *generation) release(segments []*segment) error {
	// state.db goes last, so that g.open reaches 0 only once.
	var errs []error
	for _, seg := range segments {
		errs = append(errs, seg.file.release())
	}
	errs = append(errs, g.state.release())
	return errors.Join(errs...)
}

// loadState reads and verifies all rows in one transaction.
func loadState(file *boltFile) (*hub.State, stateMeta, error) {
	var meta stateMeta
	var state *hub.State
	err := file.view(func(tx *bbolt.Tx) error {
		var err error
		if meta, err = readMeta(file.path, tx); err != nil {
			return err
		}
		rows, err := bucket(file.path, tx, bucketRows)
		if err != nil {
			return err
		}
		loader := hub.NewLoader()
		var count, digest uint64
		err = rows.ForEach(func(k, stored []byte) error {
			v, ok := unseal(k, stored)
			if !ok {
				return corrupt(file.path, "row %x does not match its checksum", k)
			}
			key, err := hub.ParseRowKey(k)
			if err == nil {
				err = loader.Add(key, v)
			}
			if err != nil {
				return corrupt(file.path, "%v", err)
			}
			count++
			digest += uint64(checksum(k, v))
			return nil
		})
		if err != nil {
			return err
		}
		if count != meta.rows || digest != meta.digest {
			return corrupt(file.path, "rows are missing or were added: found %d rows, expected %d", count, meta.rows)
		}
		if state, err = loader.State(); err != nil {
			return corrupt(file.path, "%v", err)
		}
		return nil
	})
	return state, meta, err
}

func readMeta(path string, tx *bbolt.Tx) (stateMeta, error) {
	b, err := checkFormat(path, tx)
	if err != nil {
		return stateMeta{}, err
	}
	v, ok := unseal([]byte(positionKey), b.Get([]byte(positionKey)))
	if !ok {
		return stateMeta{}, corrupt(path, "the position is missing or does not match its checksum")
	}
	m, err := decodeStateMeta(v)
	if err != nil {
		return stateMeta{}, corrupt(path, "the position is damaged (%v)", err)
	}
	return m, nil
}

// openSegments opens the segments in order. The newest stays writable unless it is due to be sealed.
func (o *Options) openSegments(dir string) (segments []*segment, err error) {
	defer func() {
		if err != nil {
			for _, seg := range segments {
				err = errors.Join(err, seg.file.release())
			}
			segments = nil
		}
	}()
	numbers, err := segmentNumbers(dir)
	if err != nil {
		return nil, err
	}
	for i, n := range numbers {
		readOnly := i < len(numbers)-1 || o.largeEnough(filepath.Join(dir, segmentName(n)))
		seg, err := o.openSegment(dir, n, readOnly)
		if err != nil {
			return segments, err
		}
		seg.sealed = readOnly || o.sealDue(seg, o.Now())
		segments = append(segments, seg)
	}
	return segments, nil
}

// largeEnough reports whether a segment is sealed when the store is opened: to write to it again, bbolt would first have to
// read all its pages.
func (o *Options) largeEnough(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > o.SegmentBytes/4
}

// segmentNumbers lists the segment files of a generation, in order.
func segmentNumbers(dir string) ([]uint64, error) {
	path := filepath.Join(dir, logDir)
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, corrupt(path, "the directory is missing")
	}
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		if n, ok := parseSegmentName(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// removeUnfinished removes files that were being created when the process ended.
func removeUnfinished(dir string) error {
	for _, d := range []string{dir, filepath.Join(dir, logDir)} {
		entries, err := os.ReadDir(d)
		if err != nil {
			continue // opening reports the problem better
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".tmp") {
				if err := os.Remove(filepath.Join(d, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// indexTopics builds the index of the message log, and checks that the segments hold every message that the state retains.
func indexTopics(path string, state *hub.State, segments []*segment, kept map[uint64]struct{}) (map[hub.TopicID]*topicLog, error) {
	topics := map[hub.TopicID]*topicLog{}
	all := state.Topics(0, 0)
	for i := range all {
		topics[all[i].ID] = &topicLog{first: all[i].First, head: all[i].Head}
	}
	if first, last := state.RetainedParts(); last > 0 {
		topics[partsTopic] = &topicLog{first: first, head: last}
	}
	for _, seg := range segments {
		for id, s := range seg.ranges {
			t := topics[id]
			if t == nil {
				continue
			}
			// Messages beyond the position in state.db are leftovers of a crash.
			if hi := min(s.hi, t.head); s.lo <= hi {
				t.addSpan(spanRef{s.lo, hi, seg})
			}
		}
	}
	for id, t := range topics {
		if id == partsTopic && state.KeepsPartsByUse() {
			if err := checkParts(path, state, t, kept); err != nil {
				return nil, err
			}
			continue
		}
		next := t.first
		for _, ref := range t.spans {
			if ref.hi >= next && ref.lo <= next {
				next = ref.hi + 1
			}
		}
		if next <= t.head {
			return nil, corrupt(path, "messages from %d-%d on are in no segment file, but the topic has %d-%d; a file is missing or damaged",
				id, next, t.first, t.head)
		}
	}
	return topics, nil
}

// checkParts checks that every part in use is in a segment, or kept in state.db.
func checkParts(path string, state *hub.State, t *topicLog, kept map[uint64]struct{}) error {
	at := 0
	for _, n := range state.PartsInUse(t.first, t.head) {
		for at < len(t.spans) && t.spans[at].hi < n {
			at++
		}
		if _, ok := kept[n]; !ok && (at == len(t.spans) || t.spans[at].lo > n) {
			return corrupt(path, "part %d of a large message is in no segment file and not in %s; a file is missing or damaged", n, stateFile)
		}
	}
	return nil
}
