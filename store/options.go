package store

import (
	"log/slog"
	"time"
)

// Options configures a Store. Only Dir is needed.
type Options struct {
	// Dir holds CURRENT and the generation directories. It is made when it does not exist.
	Dir string

	// FlushInterval is the longest time between a change and its flush, default 200 ms.
	FlushInterval time.Duration
	// FlushBytes starts a flush early when that many bytes are not flushed, default 32 MiB.
	FlushBytes int64

	// SegmentBytes and SegmentAge end a segment of the message log: the next flush starts a new file.
	// Defaults: 256 MiB and 1 hour. Retention drops whole segments, so they also say how fine it works.
	SegmentBytes int64
	SegmentAge   time.Duration

	// TailBytes is how much of the newest messages stays in memory, default 64 MiB. What is not flushed
	// yet stays in memory in any case.
	TailBytes int64
	// MaxUnflushedBytes is the amount of unflushed data from which on Overloaded reports true, default 256 MiB.
	MaxUnflushedBytes int64

	// LockTimeout is how long Open waits for a file that another process holds, default 2 seconds.
	LockTimeout time.Duration

	// Logger gets what an operator may want to know; nil: nothing is logged.
	Logger *slog.Logger
	// Fatal is called once, when the disk can no longer be trusted: with the first failed commit or fsync.
	// Nothing is flushed after it. It may end the process. It is called on a goroutine of the Store and must
	// not call Close.
	Fatal func(error)
	// Damaged is called when a file turns out to be damaged while the store runs, once for each file, with a *CorruptError. The
	// store goes on; what is damaged is not served. It is called on a goroutine of the Store or of a reader, and must not call Close.
	Damaged func(error)
	// Now is the clock for the age of segments, default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	setDuration := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	setBytes := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	setDuration(&o.FlushInterval, 200*time.Millisecond)
	setDuration(&o.SegmentAge, time.Hour)
	setDuration(&o.LockTimeout, 2*time.Second)
	setBytes(&o.FlushBytes, 32<<20)
	setBytes(&o.SegmentBytes, 256<<20)
	setBytes(&o.TailBytes, 64<<20)
	setBytes(&o.MaxUnflushedBytes, 256<<20)
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
