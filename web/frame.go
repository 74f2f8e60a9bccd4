package web

import (
	"bytes"
	"container/list"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"quorumhub/hub"
)

const (
	// inlineBytes is the largest body that stands in an event; of a larger one the event holds the URL.
	inlineBytes = hub.MaxInlineBytes
	// frameBytes bounds the events held in memory for all streams of the node.
	frameBytes = 64 << 20
	// spareFrames bounds those of them that no stream is writing at the moment.
	spareFrames = 4 << 20
	// framePause is how often a stream looks whether there is room again.
	framePause = 50 * time.Millisecond
)

// frames holds messages in the form in which they go over streams, each once, however many readers are
// writing it: thousands of readers of one topic share the bytes.
type frames struct {
	encode func(topic hub.TopicID, offset uint64) ([]byte, error)

	mu    sync.Mutex
	byKey map[frameKey]*frame
	bytes int64     // of all
	spare int64     // of those without a user
	idle  list.List // those without a user, least recently used first
}

type frameKey struct {
	topic  hub.TopicID
	offset uint64
}

type frame struct {
	frameKey
	ready chan struct{} // closed when the rest is set
	bytes []byte
	err   error
	users int
	place *list.Element // in frames.idle
}

// take returns the frame of a message, to be given back. It waits while there is no room. Errors are those of
// reading the log, or the context's.
func (f *frames) take(ctx context.Context, key frameKey) (*frame, error) {
	for {
		f.mu.Lock()
		fr := f.byKey[key]
		switch {
		case fr != nil:
			f.use(fr)
		case f.bytes-f.spare < frameBytes:
			fr = &frame{frameKey: key, ready: make(chan struct{}), users: 1}
			f.byKey[key] = fr
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

func (f *frames) filled(fr *frame) (*frame, error) {
	if fr.err != nil {
		f.give(fr)
		return nil, fr.err
	}
	return fr, nil
}

func (f *frames) use(fr *frame) {
	fr.users++
	if fr.place != nil {
		f.idle.Remove(fr.place)
		f.spare -= int64(len(fr.bytes))
		fr.place = nil
	}
}

func (f *frames) fill(fr *frame) {
	fr.bytes, fr.err = f.encode(fr.topic, fr.offset)
	f.mu.Lock()
	f.bytes += int64(len(fr.bytes))
	if fr.err != nil {
		delete(f.byKey, fr.frameKey) // the next reader looks anew
	}
	f.mu.Unlock()
	close(fr.ready)
}

// give ends the use of a frame.
func (f *frames) give(fr *frame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fr.users--; fr.users > 0 || fr.err != nil {
		return
	}
	fr.place = f.idle.PushBack(fr)
	f.spare += int64(len(fr.bytes))
	for f.spare > spareFrames {
		old := f.idle.Remove(f.idle.Front()).(*frame)
		f.spare -= int64(len(old.bytes))
		f.bytes -= int64(len(old.bytes))
		delete(f.byKey, old.frameKey)
	}
}

// held is the bytes of all frames in memory.
func (f *frames) held() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// messageEvent is the data of a message event. One of body, body_base64 and body_url is there; body_url is relative to
// the URL of the stream.
type messageEvent struct {
	ID          string    `json:"id"`
	Offset      uint64    `json:"offset"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"`
	Body        *string   `json:"body,omitempty"`
	BodyBase64  *string   `json:"body_base64,omitempty"`
	BodyURL     string    `json:"body_url,omitempty"`
}

// encodeMessage reads a message and makes it an event.
func (s *Server) encodeMessage(topic hub.TopicID, offset uint64) ([]byte, error) {
	msgs, err := s.Messages.Read(topic, offset, 1, 1)
	switch {
	case err != nil:
		return nil, err
	case len(msgs) == 0 || msgs[0].Offset != offset:
		return nil, hub.ErrTrimmed // it was there; a snapshot of a later state has replaced it
	}
	m := &msgs[0]
	e := messageEvent{ID: m.ID(), Offset: m.Offset, Time: time.Unix(0, m.Time).UTC(), ContentType: m.ContentType, Size: m.Size()}
	switch {
	case m.Size() > inlineBytes:
		e.BodyURL = "?offset=" + strconv.FormatUint(offset, 10)
	case utf8.Valid(m.Body):
		text := string(m.Body)
		e.Body = &text
	default:
		text := base64.StdEncoding.EncodeToString(m.Body)
		e.BodyBase64 = &text
	}
	return encodeEvent("", e.ID, e)
}

// encodeEvent is one event of a stream: its type ("" for message), id ("" for none), and data as one line of JSON.
func encodeEvent(kind, id string, data any) ([]byte, error) {
	var b bytes.Buffer
	if kind != "" {
		b.WriteString("event: " + kind + "\n")
	}
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("data: ")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil { // ends with a line break
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// lost tells an error that means: this message will not come any more.
func lost(err error) bool {
	return errors.Is(err, hub.ErrTrimmed) || errors.Is(err, hub.ErrUnknownTopic)
}
