package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// bbolt has no checksums in its data pages, so raft.db has its own. An entry carries one over all of it in raft.Log.Extensions, which
// raft stores and sends with it: it is made by the leader that makes the entry, and checked by every node that stores it or reads
// it. So a bit that flips in one node's file is found there, and goes to no other node. Values beside the log carry theirs behind them.

var errChecksum = errors.New("it does not match its checksum")

const sumSize = 4

// entrySum is the checksum (CRC32C, big endian) of an entry.
func entrySum(l *raft.Log) [sumSize]byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	table := crc32.MakeTable(crc32.Castagnoli) // the standard library keeps one
	sum := crc32.Update(crc32.Checksum(head[:], table), table, l.Data)
	return [sumSize]byte(binary.BigEndian.AppendUint32(nil, sum))
}

// sealEntries gives new entries their checksums, and checks those that have one.
func sealEntries(logs []*raft.Log) error {
	for _, l := range logs {
		sum := entrySum(l)
		if len(l.Extensions) == 0 {
			l.Extensions = sum[:]
		} else if string(l.Extensions) != string(sum[:]) {
			return fmt.Errorf("entry %d as it came from the leader: %w", l.Index, errChecksum)
		}
	}
	return nil
}

// checkEntry checks an entry that was read as number index.
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

// sealValue is the stored form of a value: the value and its checksum (CRC32C over key and value, big endian).
func sealValue(key, val []byte) []byte {
	return append(append(make([]byte, 0, len(val)+sumSize), val...), valueSum(key, val)...)
}

func openValue(key, stored []byte) ([]byte, error) {
	if n := len(stored) - sumSize; n >= 0 && string(valueSum(key, stored[:n])) == string(stored[n:]) {
		return stored[:n], nil
	}
	return nil, fmt.Errorf("%s: %w", key, errChecksum)
}

// values are the keys beside the log that a node may have.
func values() [][]byte {
	return [][]byte{keyCompacted, keyInstalled, keyCurrentTerm, keyVoteTerm, keyVoteCandidate}
}

// checkValues checks the values beside the log.
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
