package sse

import (
	"container/list"
	"context"
	"sync"
	"time"

	"quorumhub/hub"
)

const (
	// maxFrameBytes bounds the events held in memory for all streams of a node.
	maxFrameBytes = 64 << 20
	// maxIdleBytes bounds those of them that no stream is sending.
	maxIdleBytes = 4 << 20
	// frameShares is the number of shares in maxFrameBytes, so that readers who are slow to take large events leave room to others.
	frameShares = 8
	// framePause is how often a stream checks whether there is room again.
	framePause = 50 * time.Millisecond
)

// Frames caches encoded messages, each once, however many readers are sending it: thousands of readers of one topic share the
// bytes. At most 64 MiB are in use, what is being encoded included, and at most an eighth of that on behalf of one owner. Safe for
// concurrent use.
type Frames struct {
	encode  func(topic hub.TopicID, offset uint64) ([]byte, error)
	largest int64

	mu    sync.Mutex
	byKey map[frameKey]*Frame
	bytes int64         // of all frames; of one that is being encoded: largest
	by    map[any]int64 // of them, those in use, by owner
	idle  list.List     // frames without a user, least recently used first
	spare int64         // bytes of the idle frames
}

type frameKey struct {
	topic  hub.TopicID
	offset uint64
}

// Frame is an encoded message on loan from Frames.
type Frame struct {
	key   frameKey
	ready chan struct{} // closed when bytes and err are set
	bytes []byte
	err   error
	held  int64 // counted in Frames.bytes
	owner any   // who asked first, to whom held is counted while the frame is in use
	users int
	place *list.Element // in Frames.idle
}

// Bytes returns the encoded event, which must not be changed and is valid until Release.
func (fr *Frame) Bytes() []byte { return fr.bytes }

// NewFrames makes a cache of what encode returns, at most largest bytes each.
func NewFrames(largest int64, encode func(topic hub.TopicID, offset uint64) ([]byte, error)) *Frames {
	return &Frames{encode: encode, largest: largest, byKey: map[frameKey]*Frame{}, by: map[any]int64{}}
}

// Take returns the frame of a message; Release it after use. It waits while there is no room, in all or for the owner, who may be
// anything that can be compared. Errors are encode's, or ctx's.
func (f *Frames) Take(ctx context.Context, owner any, topic hub.TopicID, offset uint64) (*Frame, error) {
	key := frameKey{topic, offset}
	for {
		f.mu.Lock()
		fr := f.byKey[key]
		switch {
		case fr != nil:
			f.useLocked(fr)
		case f.bytes-f.spare+f.largest <= maxFrameBytes && f.by[owner]+f.largest <= max(f.largest, maxFrameBytes/frameShares):
			// Counted before it is made: thousands may be made at once.
			fr = &Frame{key: key, ready: make(chan struct{}), users: 1, owner: owner, held: f.largest}
			f.byKey[key] = fr
			f.bytes += fr.held
			f.chargeLocked(fr, fr.held)
			f.mu.Unlock()
			f.fill(fr)
			return f.filled(fr)
		}
		f.mu.Unlock()
		if fr != nil {
			<-fr.ready
			return f.filled(fr)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(framePause):
		}
	}
}

func (f *Frames) filled(fr *Frame) (*Frame, error) {
	if fr.err != nil {
		f.Release(fr)
		return nil, fr.err
	}
	return fr, nil
}

func (f *Frames) useLocked(fr *Frame) {
	fr.users++
	if fr.place != nil {
		f.idle.Remove(fr.place)
		f.spare -= fr.held
		fr.place = nil
		f.chargeLocked(fr, fr.held)
	}
}

// chargeLocked counts bytes in use to the frame's owner.
func (f *Frames) chargeLocked(fr *Frame, n int64) {
	if f.by[fr.owner] += n; f.by[fr.owner] == 0 {
		delete(f.by, fr.owner)
	}
}

func (f *Frames) fill(fr *Frame) {
	fr.bytes, fr.err = f.encode(fr.key.topic, fr.key.offset)
	f.mu.Lock()
	more := int64(len(fr.bytes)) - fr.held
	fr.held += more
	f.bytes += more
	f.chargeLocked(fr, more)
	if fr.err != nil {
		delete(f.byKey, fr.key) // the next reader tries again
	}
	f.mu.Unlock()
	close(fr.ready)
}

// Release returns a frame.
func (f *Frames) Release(fr *Frame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fr.users--; fr.users > 0 || fr.err != nil {
		return
	}
	f.chargeLocked(fr, -fr.held)
	fr.place = f.idle.PushBack(fr)
	f.spare += fr.held
	for f.spare > maxIdleBytes {
		old := f.idle.Remove(f.idle.Front()).(*Frame)
		f.spare -= old.held
		f.bytes -= old.held
		delete(f.byKey, old.key)
	}
}

// Held returns the bytes of all frames in memory.
func (f *Frames) Held() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}
