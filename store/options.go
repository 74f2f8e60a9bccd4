package store

import (
	"cmp"
	"log/slog"
	"time"
)

// Options configures a Store. Only Dir is required.
type Options struct {
	// Dir holds CURRENT and the generation directories. It is created if missing.
	Dir string

	// FlushInterval is the longest time between a change and its flush, default 200 ms.
	FlushInterval time.Duration
	// FlushBytes is how many unflushed bytes start a flush early, default 32 MiB.
	FlushBytes int64

	// SegmentBytes and SegmentAge are the size and age at which a segment of the message log is sealed; the next flush starts
	// a new one. Defaults: 256 MiB and 1 hour. Retention drops whole segments, so they also set its granularity.
	SegmentBytes int64
	SegmentAge   time.Duration

	// RetainBytes and RetainAge are what retention keeps of the message log; 0: no limit. Segments are sealed at an eighth of
	// them if that is sooner, and a flush that exceeds the eighth is divided, so that dropping whole segments stays close to
	// the limit. Grown reports segments that use more than RetainBytes.
	RetainBytes int64
	RetainAge   time.Duration

	// TailBytes is the size of the newest messages kept in memory, default 64 MiB. Unflushed messages stay in memory in any
	// case.
	TailBytes int64
	// MaxUnflushedBytes is the amount of unflushed data above which Overloaded reports true, default 256 MiB.
	MaxUnflushedBytes int64

	// LockTimeout is how long Open waits for a file that another process has locked, default 2 seconds.
	LockTimeout time.Duration

	// Logger receives what an operator should know. nil: nothing is logged.
	Logger *slog.Logger
	// Fatal is called once, when the disk can no longer be trusted: after the first failed commit or fsync. Nothing is flushed
	// afterwards. It may end the process. It is called on one of the Store's goroutines and must not call Close.
	Fatal func(error)
	// Damaged is called with a *CorruptError when damage is found in a file while the store runs, once per file. The store
	// continues; damaged records are not served. It is called on a goroutine of the Store or of a reader and must not call
	// Close.
	Damaged func(error)
	// Now is the clock for the age of segments, default time.Now.
	Now func() time.Time
}

const (
	// segmentShare is how many segments RetainBytes and RetainAge are divided into at least.
	segmentShare = 8
	// minSegmentShare keeps the fixed cost of a file small against its content.
	minSegmentShare = 64 << 10
)

// segmentShare returns the bytes that one segment may use of RetainBytes.
func (o *Options) segmentShare() int64 { return max(o.RetainBytes/segmentShare, minSegmentShare) }

func (o Options) withDefaults() Options {
	o.FlushInterval = cmp.Or(o.FlushInterval, 200*time.Millisecond)
	o.SegmentAge = cmp.Or(o.SegmentAge, time.Hour)
	o.LockTimeout = cmp.Or(o.LockTimeout, 2*time.Second)
	o.FlushBytes = cmp.Or(o.FlushBytes, 32<<20)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 256<<20)
	if o.RetainBytes > 0 {
		o.SegmentBytes = min(o.SegmentBytes, o.segmentShare())
		o.FlushBytes = min(o.FlushBytes, o.RetainBytes)
	}
	if o.RetainAge > 0 {
		o.SegmentAge = min(o.SegmentAge, o.RetainAge/segmentShare)
	}
	o.TailBytes = cmp.Or(o.TailBytes, 64<<20)
	o.MaxUnflushedBytes = cmp.Or(o.MaxUnflushedBytes, 256<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
	if o.Damaged == nil {
		o.Damaged = func(error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
