package store

import (
	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// partsTopic is the topic under which the log keeps the parts of blobs, by number. No real topic has this ID.
const partsTopic hub.TopicID = 0

var _ hub.PartReader = (*Store)(nil)

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
