package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

const (
	// pieceBytes is what one value of raft.db holds of an entry. A leaf of bbolt keeps up to four values that are larger
	// than a page, and all of them are written again with the next one: an entry of 64 KiB in one value makes the kernel write
	// eight times its size, in pieces two and a half times.
	pieceBytes = 16 << 10
	// pieceBits are the bits of a key that number the pieces of an entry; the index of the entry is above them.
	pieceBits = 8
	maxPieces = 1 << pieceBits
)

// pieces keeps raft's entries in pieces in another LogStore. The first piece has all that belongs to an entry, and behind its
// checksum one byte, the number of pieces after it; the others have data only. All are written in one transaction.
type pieces struct{ raft.LogStore }

func pieceKey(index uint64, piece int) uint64 { return index<<pieceBits | uint64(piece) }

// FirstIndex implements raft.LogStore.
func (p pieces) FirstIndex() (uint64, error) {
	key, err := p.LogStore.FirstIndex()
	return key >> pieceBits, err
}

// LastIndex implements raft.LogStore.
func (p pieces) LastIndex() (uint64, error) {
	key, err := p.LogStore.LastIndex()
	return key >> pieceBits, err
}

// GetLog implements raft.LogStore. It finds missing pieces (errChecksum); the caller checks the entry against its checksum.
func (p pieces) GetLog(index uint64, log *raft.Log) error {
	var first raft.Log
	if err := p.LogStore.GetLog(pieceKey(index, 0), &first); err != nil {
		return err
	}
	n := len(first.Extensions) - 1
	if n < 0 || first.Index != pieceKey(index, 0) {
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
		switch err := p.LogStore.GetLog(pieceKey(index, i), &next); {
		case errors.Is(err, raft.ErrLogNotFound):
			return fmt.Errorf("entry %d: piece %d of %d is missing: %w", index, i+1, more+1, errChecksum)
		case err != nil:
			return err
		}
		log.Data = append(log.Data, next.Data...)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (p pieces) StoreLog(log *raft.Log) error { return p.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (p pieces) StoreLogs(logs []*raft.Log) error {
	out := make([]*raft.Log, 0, 2*len(logs))
	for _, l := range logs {
		size := max(pieceBytes, (len(l.Data)+maxPieces-1)/maxPieces)
		first := *l
		first.Index = pieceKey(l.Index, 0)
		rest := []byte(nil)
		if len(l.Data) > size {
			first.Data, rest = l.Data[:size], l.Data[size:]
		}
		more := (len(rest) + size - 1) / size
		first.Extensions = append(append(make([]byte, 0, len(l.Extensions)+1), l.Extensions...), byte(more))
		out = append(out, &first)
		for i := 1; i <= more; i++ {
			n := min(size, len(rest))
			out = append(out, &raft.Log{Index: pieceKey(l.Index, i), Data: rest[:n]})
			rest = rest[n:]
		}
	}
	return p.LogStore.StoreLogs(out)
}

// DeleteRange implements raft.LogStore.
func (p pieces) DeleteRange(from, to uint64) error {
	return p.LogStore.DeleteRange(pieceKey(from, 0), pieceKey(to, maxPieces-1))
}
