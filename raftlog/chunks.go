package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

const (
	// chunkBytes is how much of an entry one value of raft.db holds. A bbolt leaf keeps up to four values larger than a
	// page, and rewrites all of them with the next one: stored as one value, an entry of 64 KiB makes the kernel write eight
	// times its size; in chunks, two and a half times.
	chunkBytes = 16 << 10
	// chunkBits is the number of low bits of a key that number an entry's chunks. The bits above hold the entry's index.
	chunkBits = 8
	maxChunks = 1 << chunkBits
)

// chunks splits raft's entries into chunks and keeps them in another LogStore. The first chunk has all fields of the entry;
// after its checksum comes one byte, the number of further chunks. The others hold data only. All chunks of an entry are
// written in one transaction.
type chunks struct{ raft.LogStore }

func chunkKey(index uint64, chunk int) uint64 { return index<<chunkBits | uint64(chunk) }

// FirstIndex implements raft.LogStore.
func (c chunks) FirstIndex() (uint64, error) {
	key, err := c.LogStore.FirstIndex()
	return key >> chunkBits, err
}

// LastIndex implements raft.LogStore.
func (c chunks) LastIndex() (uint64, error) {
	key, err := c.LogStore.LastIndex()
	return key >> chunkBits, err
}

// GetLog implements raft.LogStore. It detects missing chunks (errChecksum); the caller verifies the entry's checksum.
func (c chunks) GetLog(index uint64, log *raft.Log) error {
	var first raft.Log
	if err := c.LogStore.GetLog(chunkKey(index, 0), &first); err != nil {
		return err
	}
	n := len(first.Extensions) - 1
	if n < 0 || first.Index != chunkKey(index, 0) {
		return fmt.Errorf("entry %d: %w", index, errChecksum)
	}
	more := int(first.Extensions[n])
	*log = first
	log.Index, log.Extensions = index, first.Extensions[:n:n]
	if more > 0 {
		data := make([]byte, 0, (more+1)*len(first.Data))
		log.Data = append(data, first.Data...)
	}
	for i := 1; i <= more; i++ {
		var next raft.Log
		switch err := c.LogStore.GetLog(chunkKey(index, i), &next); {
		case errors.Is(err, raft.ErrLogNotFound):
			return fmt.Errorf("entry %d: chunk %d of %d is missing: %w", index, i+1, more+1, errChecksum)
		case err != nil:
			return err
		}
		log.Data = append(log.Data, next.Data...)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (c chunks) StoreLog(log *raft.Log) error { return c.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (c chunks) StoreLogs(logs []*raft.Log) error {
	out := make([]*raft.Log, 0, 2*len(logs))
	for _, l := range logs {
		size := max(chunkBytes, (len(l.Data)+maxChunks-1)/maxChunks)
		first := *l
		first.Index = chunkKey(l.Index, 0)
		rest := []byte(nil)
		if len(l.Data) > size {
			first.Data, rest = l.Data[:size], l.Data[size:]
		}
		more := (len(rest) + size - 1) / size
		first.Extensions = append(append(make([]byte, 0, len(l.Extensions)+1), l.Extensions...), byte(more))
		out = append(out, &first)
		for i := 1; i <= more; i++ {
			n := min(size, len(rest))
			out = append(out, &raft.Log{Index: chunkKey(l.Index, i), Data: rest[:n]})
			rest = rest[n:]
		}
	}
	return c.LogStore.StoreLogs(out)
}

// DeleteRange implements raft.LogStore.
func (c chunks) DeleteRange(from, to uint64) error {
	return c.LogStore.DeleteRange(chunkKey(from, 0), chunkKey(to, maxChunks-1))
}
