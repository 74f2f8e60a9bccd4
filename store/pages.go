package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// CheckPages checks the pages of a bbolt file that nothing is writing to (see checkPages). Damage is a *CorruptError.
func CheckPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(checkPages(path, f), f.Close())
}

// checkPages walks all pages of a bbolt file and checks that they form a valid tree. bbolt itself reads all pages when it
// opens a file for writing, in a goroutine of its own where a damaged page crashes the process. The walk reads through r, not
// through a memory map, so a truncated file causes an error rather than a fault. Damage is a *CorruptError with path.
func checkPages(path string, r io.ReaderAt) error {
	w := &pageWalk{path: path, r: r}
	if err := w.readMeta(); err != nil {
		return err
	}
	w.seen = make([]uint64, w.end/64+1)
	return w.tree(w.root, nil, nil)
}

// The page format is bbolt's version 2. Integers are in the machine's byte order.
const (
	pageHeader    = 16 // id 8, flags 2, count 2, overflow 4
	pageElement   = 16 // branch: pos 4, ksize 4, id 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	bucketHeader  = 16 // root page 8, sequence 8
	metaSize      = 64 // magic 4, version 4, page size 4, flags 4, bucket 16, freelist 8, end 8, txid 8, sum 8
	flagBranch    = 1
	flagLeaf      = 2
	flagBucket    = 1
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	maxPageSize   = 64 << 10
	firstDataPage = 2
)

type pageWalk struct {
	path      string
	r         io.ReaderAt
	size      int
	root, end uint64
	seen      []uint64 // bitmap of visited pages
}

func (w *pageWalk) bad(format string, args ...any) error {
	return corrupt(w.path, "damaged pages: %s", fmt.Sprintf(format, args...))
}

// readMeta finds the newer of the valid meta pages.
func (w *pageWalk) readMeta() error {
	order := binary.NativeEndian
	var newest uint64
	for size := 1 << 10; size <= maxPageSize; size <<= 1 {
		for at := 0; at <= size; at += size {
			b := make([]byte, metaSize)
			if _, err := w.r.ReadAt(b, int64(at)+pageHeader); err != nil {
				continue
			}
			sum := fnv.New64a()
			sum.Write(b[:metaSize-8])
			txid := order.Uint64(b[48:])
			if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || int(order.Uint32(b[8:])) != size ||
				order.Uint64(b[56:]) != sum.Sum64() || (w.size != 0 && txid < newest) {
				continue
			}
			newest, w.size = txid, size
			w.root, w.end = order.Uint64(b[16:]), order.Uint64(b[40:])
		}
	}
	if w.size == 0 {
		return corrupt(w.path, "not a valid bbolt file (both meta pages are damaged)")
	}
	return nil
}

// tree walks the tree below page id, whose keys are at least low and less than high. nil means no bound.
func (w *pageWalk) tree(id uint64, low, high []byte) error {
	b, err := w.page(id)
	if err != nil {
		return err
	}
	return w.elements(id, b, low, high)
}

// page reads a page with its overflow pages, and checks that each page is reached only once.
func (w *pageWalk) page(id uint64) ([]byte, error) {
	if id < firstDataPage || id >= w.end {
		return nil, w.bad("page %d is outside the range 2 to %d", id, w.end)
	}
	b := make([]byte, w.size)
	if err := w.read(b, id); err != nil {
		return nil, err
	}
	order := binary.NativeEndian
	overflow := uint64(order.Uint32(b[12:]))
	if order.Uint64(b) != id || overflow >= w.end-id {
		return nil, w.bad("page %d claims to be page %d with %d overflow pages", id, order.Uint64(b), overflow)
	}
	for p := id; p <= id+overflow; p++ {
		if w.seen[p/64]&(1<<(p%64)) != 0 {
			return nil, w.bad("page %d is used twice", p)
		}
		w.seen[p/64] |= 1 << (p % 64)
	}
	if overflow == 0 {
		return b, nil
	}
	b = make([]byte, (1+int(overflow))*w.size)
	return b, w.read(b, id)
}

func (w *pageWalk) read(b []byte, id uint64) error {
	if _, err := w.r.ReadAt(b, int64(id)*int64(w.size)); err != nil {
		return w.bad("page %d cannot be read (%v)", id, err)
	}
	return nil
}

// elements checks one page's content and the pages below it.
func (w *pageWalk) elements(id uint64, b []byte, low, high []byte) error {
	order := binary.NativeEndian
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return w.bad("page %d has type %x", id, flags)
	}
	if pageHeader+count*pageElement > len(b) || (flags == flagBranch && count == 0) {
		return w.bad("page %d claims %d elements", id, count)
	}
	var previous []byte
	element := func(i int) []byte { return b[pageHeader+i*pageElement:] }
	for i := range count {
		key, value, err := w.element(id, b, i, flags)
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(previous, key) >= 0 || (i == 0 && low != nil && bytes.Compare(low, key) > 0) ||
			(high != nil && bytes.Compare(key, high) >= 0) {
			return w.bad("page %d has key %x out of order", id, key)
		}
		previous = key
		switch {
		case flags == flagBranch:
			next := high
			if i+1 < count {
				if next, _, err = w.element(id, b, i+1, flags); err != nil {
					return err
				}
			}
			if err := w.tree(order.Uint64(element(i)[8:]), key, next); err != nil {
				return err
			}
		case order.Uint32(element(i))&flagBucket != 0:
			if err := w.bucket(id, key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *pageWalk) element(id uint64, b []byte, i int, flags uint16) (key, value []byte, err error) {
	order := binary.NativeEndian
	at := pageHeader + i*pageElement
	e := b[at : at+pageElement]
	var pos, ksize, vsize uint64
	if flags == flagBranch {
		pos, ksize = uint64(order.Uint32(e)), uint64(order.Uint32(e[4:]))
	} else {
		pos, ksize, vsize = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
	}
	start := uint64(at) + pos
	if start+ksize+vsize > uint64(len(b)) {
		return nil, nil, w.bad("page %d has an element that extends beyond the page", id)
	}
	return b[start : start+ksize], b[start+ksize : start+ksize+vsize], nil
}

// bucket walks a bucket's tree, or checks the page inside its value if the bucket is inline.
func (w *pageWalk) bucket(id uint64, name, value []byte) error {
	if len(value) < bucketHeader {
		return w.bad("bucket %q on page %d has no header", name, id)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.tree(root, nil, nil)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != flagLeaf {
		return w.bad("bucket %q on page %d has no content", name, id)
	}
	return w.elements(id, inline, nil, nil)
}
