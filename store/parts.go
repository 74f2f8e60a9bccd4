package store

import (
	"errors"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// partsTopic is the topic under which the log keeps the parts of blobs, by number. No real topic has this ID.
const partsTopic hub.TopicID = 0

var _ hub.PartReader = (*Store)(nil)

// ReadPart implements hub.PartReader. It copies only what goes into p, and verifies the part's checksum each time. Errors are
// hub.ErrTrimmed, ErrClosed or a *CorruptError.
func (s *Store) ReadPart(part uint64, at int, p []byte) (int, error) {
	if s.closed.Load() {
		return 0, ErrClosed
	}
	msgs, seg, _, err := s.log.find(nil, partsTopic, part, 1, 1)
	switch {
	case errors.Is(err, hub.ErrUnknownTopic):
		return 0, hub.ErrTrimmed
	case err != nil:
		return 0, err
	case seg != nil:
		n, err := seg.readPart(part, at, p)
		return n, errors.Join(err, seg.file.release())
	case len(msgs) == 0:
		return 0, hub.ErrTrimmed // the part belonged to a replaced state
	}
	return copy(p, msgs[0].Body[min(at, len(msgs[0].Body)):]), nil
}

func (seg *segment) readPart(part uint64, at int, p []byte) (n int, err error) {
	err = seg.file.view(func(tx *bbolt.Tx) error {
		records, err := bucket(seg.file.path, tx, bucketRecords)
		if err != nil {
			return err
		}
		key := appendRecordKey(nil, partsTopic, part)
		stored := records.Get(key)
		if stored == nil {
			return corrupt(seg.file.path, "part %d is missing", part)
		}
		v, ok := unseal(key, stored)
		if !ok {
			return corrupt(seg.file.path, "part %d does not match its checksum", part)
		}
		body, err := hub.RecordBody(v)
		if err != nil {
			return corrupt(seg.file.path, "part %d: %v", part, err)
		}
		n = copy(p, body[min(at, len(body)):])
		return nil
	})
	return n, err
}
