package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// bbolt has no checksums in its data pages, so raft.db adds its own. An entry's checksum covers all of it and is kept in
// raft.Log.Extensions, which raft stores and sends with the entry. The leader that creates the entry computes it; every node that
// stores or reads the entry verifies it. A bit that flips in one node's file is found there and never reaches another node.
// Other values carry their checksum at the end.

var errChecksum = errors.New("checksum mismatch")

const sumSize = 4

// entrySum returns the checksum (CRC32C, big endian) of an entry.
func entrySum(l *raft.Log) [sumSize]byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	table := crc32.MakeTable(crc32.Castagnoli) // cached by the standard library
	sum := crc32.Update(crc32.Checksum(head[:], table), table, l.Data)
	return [sumSize]byte(binary.BigEndian.AppendUint32(nil, sum))
}

// sealEntries adds checksums to new entries and verifies existing ones.
func sealEntries(logs []*raft.Log) error {
	for _, l := range logs {
		sum := entrySum(l)
		if len(l.Extensions) == 0 {
			l.Extensions = sum[:]
		} else if string(l.Extensions) != string(sum[:]) {
			return fmt.Errorf("entry %d as received from the leader: %w", l.Index, errChecksum)
		}
	}
	return nil
}

// checkEntry verifies an entry that was read at index.
func checkEntry(index uint64, l *raft.Log) error {
	if sum := entrySum(l); l.Index != index || string(l.Extensions) != string(sum[:]) {
		return fmt.Errorf("entry %d: %w", index, errChecksum)
	}
	return nil
}

func valueSum(key, val []byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(key, table), table, val))
}

// sealValue returns the stored form of a value: the value followed by its checksum (CRC32C over key and value, big endian).
func sealValue(key, val []byte) []byte {
	return append(append(make([]byte, 0, len(val)+sumSize), val...), valueSum(key, val)...)
}

func openValue(key, stored []byte) ([]byte, error) {
	if n := len(stored) - sumSize; n >= 0 && string(valueSum(key, stored[:n])) == string(stored[n:]) {
		return stored[:n], nil
	}
	return nil, fmt.Errorf("%s: %w", key, errChecksum)
}

// values lists the keys other than entries that raft.db may hold.
func values() [][]byte {
	return [][]byte{keyCompacted, keyInstalled, keyCurrentTerm, keyVoteTerm, keyVoteCandidate}
}

// checkValues verifies these values.
func checkValues(db *raftboltdb.BoltStore) []error {
	var errs []error
	for _, key := range values() {
		stored, err := db.Get(key)
		if errors.Is(err, raftboltdb.ErrKeyNotFound) {
			continue
		}
		if err == nil {
			_, err = openValue(key, stored)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
