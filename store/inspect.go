package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// Report describes the files of a stopped node.
type Report struct {
	Dir        string
	Generation string
	Position   Position
	ClusterID  string
	StateHash  uint64    // rolling hash of all entries applied
	Now        time.Time // newest leader's time in the log
	Counts     hub.Counts
	Topics     []TopicReport
	StateFile  FileReport
	Segments   []SegmentReport
	Problems   []error // what is damaged, usually *CorruptError; empty: nothing

	parts map[uint64]struct{} // of blobs, with an intact record in a segment
}

// TopicReport describes a topic and its retained messages.
type TopicReport struct {
	ID            hub.TopicID
	Name          string
	First, Head   uint64
	Subscriptions int
}

// FileReport describes a file.
type FileReport struct {
	File  string // relative to the inspected directory
	Bytes int64  // in use
}

// SegmentReport describes one file of the message log.
type SegmentReport struct {
	FileReport
	Created time.Time
	Records int // intact ones
	Newest  time.Time
	Ranges  []RangeReport
}

// RangeReport describes a topic's part of a segment: offsets First to Last.
type RangeReport struct {
	Topic       hub.TopicID
	First, Last uint64
	Bytes       int64
}

// Inspect reads a stopped node's files and verifies every row and every record, without changing anything. Damaged files are
// listed in the report's Problems. It returns an error if there is nothing to inspect: no store in dir, a running node, or
// a damaged CURRENT.
func Inspect(dir string) (*Report, error) {
	opts := Options{Dir: dir}.withDefaults()
	number, err := readCurrent(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("inspect %s: there is no store: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	gen := filepath.Join(dir, generationName(number))
	r := &Report{Dir: dir, Generation: generationName(number)}

	var state *hub.State
	var keptInState map[uint64]struct{}
	path := filepath.Join(gen, stateFile)
	file, err := openBolt(path, opts.stateBolt(true))
	if err == nil {
		var meta stateMeta
		r.StateFile = FileReport{File: filepath.Join(r.Generation, stateFile), Bytes: file.used()}
		if err = checkPages(path, file.raw); err == nil {
			state, meta, err = loadState(file)
			r.Position = meta.position
			problem := func(err error) { r.Problems = append(r.Problems, err) }
			err = errors.Join(err, checkLetters(file, problem))
			var partsErr error
			keptInState, partsErr = keptParts(file, problem)
			err = errors.Join(err, partsErr)
		}
		err = errors.Join(err, file.release())
	}
	if err := r.problem(err); err != nil {
		return nil, err
	}
	segments, err := r.inspectSegments(&opts, gen, keptOf(state))
	if err != nil {
		return nil, err
	}
	if state != nil {
		r.describe(state)
		if _, err := indexTopics(filepath.Join(gen, logDir), state, segments, keptInState); err != nil {
			r.Problems = append(r.Problems, err)
		} else {
			r.checkPartRecords(filepath.Join(gen, logDir), state, keptInState)
		}
	}
	return r, nil
}

// problem adds damage to the report and returns any other error.
func (r *Report) problem(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, hub.ErrCorrupt) {
		return fmt.Errorf("inspect: %w", err)
	}
	r.Problems = append(r.Problems, err)
	return nil
}

func (r *Report) describe(state *hub.State) {
	r.ClusterID, r.StateHash, r.Now, r.Counts = state.ClusterID(), state.Hash(), state.Now(), state.Counts()
	topics := state.Topics(0, 0)
	for i := range topics {
		t := &topics[i]
		r.Topics = append(r.Topics, TopicReport{t.ID, t.Name, t.First, t.Head, t.Subscribers()})
	}
}

func (r *Report) foundPart(part uint64) {
	if r.parts == nil {
		r.parts = map[uint64]struct{}{}
	}
	r.parts[part] = struct{}{}
}

// checkPartRecords reports the parts in use of which there is no intact record.
func (r *Report) checkPartRecords(path string, state *hub.State, kept map[uint64]struct{}) {
	if !state.KeepsPartsByUse() {
		return // checkRecords has done it
	}
	for _, n := range state.PartsInUse(state.RetainedParts()) {
		_, inSegment := r.parts[n]
		if _, ok := kept[n]; !ok && !inSegment {
			r.Problems = append(r.Problems, corrupt(path, "part %d of a large message is missing or damaged", n))
		}
	}
}

// keptOf returns a function that returns which offsets of a topic the state retains: none if the topic does not exist or no state
// could be read.
func keptOf(state *hub.State) func(hub.TopicID) (first, last uint64) {
	return func(id hub.TopicID) (uint64, uint64) {
		if state == nil {
			return 1, 0
		}
		if id == partsTopic {
			if state.KeepsPartsByUse() {
				return 1, 0 // checkPartRecords looks for each that is in use
			}
			return state.RetainedParts()
		}
		if t, ok := state.TopicByID(id); ok {
			return t.First, t.Head
		}
		return 1, 0
	}
}

func (r *Report) inspectSegments(opts *Options, gen string, kept func(hub.TopicID) (first, last uint64)) ([]*segment, error) {
	numbers, err := segmentNumbers(gen)
	if err != nil {
		return nil, r.problem(err)
	}
	var segments []*segment
	for _, n := range numbers {
		seg, err := opts.openSegment(gen, n, true)
		if err != nil {
			if err := r.problem(err); err != nil {
				return nil, err
			}
			continue
		}
		report := SegmentReport{
			FileReport: FileReport{File: filepath.Join(r.Generation, segmentName(n)), Bytes: seg.size},
			Created:    seg.created,
		}
		if newest := seg.newest(); newest > 0 {
			report.Newest = time.Unix(0, newest)
		}
		for _, id := range slices.Sorted(maps.Keys(seg.ranges)) {
			s := seg.ranges[id]
			report.Ranges = append(report.Ranges, RangeReport{Topic: id, First: s.lo, Last: s.hi, Bytes: s.bytes})
		}
		if err = checkPages(seg.file.path, seg.file.raw); err == nil {
			report.Records, err = seg.checkRecords(kept, r.foundPart, func(err error) { r.Problems = append(r.Problems, err) })
		}
		err = errors.Join(err, seg.file.release())
		r.Segments = append(r.Segments, report)
		segments = append(segments, seg)
		if err := r.problem(err); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

// checkRecords reads all records. It reports each damaged record, and each topic that lacks retained records. Records that are
// not retained may be missing: a segment that became active again, in a snapshot without the dropped ones after it, has a
// gap. It calls part for each intact part of a blob, and returns the number of intact records.
func (seg *segment) checkRecords(kept func(hub.TopicID) (first, last uint64), part func(uint64), problem func(error)) (good int, err error) {
	want := func(id hub.TopicID) (lo, hi uint64) {
		first, last := kept(id)
		return max(first, seg.ranges[id].lo), min(last, seg.ranges[id].hi)
	}
	count := map[hub.TopicID]uint64{}
	err = seg.file.view(func(tx *bbolt.Tx) error {
		records, err := bucket(seg.file.path, tx, bucketRecords)
		if err != nil {
			return err
		}
		return records.ForEach(func(k, v []byte) error {
			topic, offset, ok := parseRecordKey(k)
			if !ok {
				problem(corrupt(seg.file.path, "record key %x is damaged", k))
				return nil
			}
			if lo, hi := want(topic); offset >= lo && offset <= hi {
				count[topic]++
			}
			if _, err := seg.parse(topic, offset, k, v); err != nil {
				problem(err)
				return nil
			}
			if topic == partsTopic {
				part(offset)
			}
			good++
			return nil
		})
	})
	if err != nil {
		return good, err
	}
	for _, id := range slices.Sorted(maps.Keys(seg.ranges)) {
		if lo, hi := want(id); lo <= hi && count[id] != hi-lo+1 {
			problem(corrupt(seg.file.path, "topic %d has %d records from %d to %d, expected %d", id, count[id], lo, hi, hi-lo+1))
		}
	}
	return good, nil
}
