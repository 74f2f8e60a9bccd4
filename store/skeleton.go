package store

import (
	"context"
	"errors"
	"io"
	"time"

	"quorumhub/hub"
)

var errNotBuilt = errors.New("not built")

// Store is the state and the message log of one node. See the package comment.
type Store struct{}

// Open opens the store in opts.Dir.
func Open(opts Options) (*Store, error) { return nil, errNotBuilt }

func (s *Store) Close() error                                       { return errNotBuilt }
func (s *Store) Apply(entries []Entry) ([][]hub.BatchResult, error) { return nil, errNotBuilt }
func (s *Store) Observe(o hub.Observer)                             {}
func (s *Store) View(f func(*hub.State))                            {}
func (s *Store) Read(topic hub.TopicID, from uint64, max, maxBytes int) ([]hub.Message, error) {
	return nil, errNotBuilt
}
func (s *Store) Applied() Position               { return Position{} }
func (s *Store) Durable() Position               { return Position{} }
func (s *Store) Flush(ctx context.Context) error { return errNotBuilt }
func (s *Store) Witness(index, term uint64, configuration []byte, configurationIndex uint64) {
}
func (s *Store) Overloaded() bool { return false }
func (s *Store) Stats() Stats     { return Stats{} }

// TrimCandidates is what retention may drop at now, found from sealed segments.
func (s *Store) TrimCandidates(maxAge time.Duration, maxBytes int64, now time.Time) []hub.Trim {
	return nil
}

// Crash closes the store without flushing, as the end of the process would.
func (s *Store) Crash() error { return errNotBuilt }

// Snapshot is the store's files at one position.
type Snapshot struct {
	Position Position
	Size     int64 // exact number of bytes that Read will return
	io.ReadCloser
}

func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) { return nil, errNotBuilt }

// Incoming is a received snapshot, verified and durable in a generation of its own that is not current yet.
type Incoming struct {
	Position Position
}

// Discard removes what was received. It does nothing after Install.
func (in *Incoming) Discard() error { return nil }

func (s *Store) Receive(r io.Reader) (*Incoming, error) { return nil, errNotBuilt }
func (s *Store) Install(in *Incoming) error             { return errNotBuilt }
func (s *Store) OnInstall(f func())                     {}

// Report is what Inspect found.
type Report struct{}

func Inspect(dir string) (*Report, error) { return nil, errNotBuilt }

// Stats are figures about a Store.
type Stats struct {
	Unflushed int64 // bytes applied and not yet durable
	Tail      int64 // bytes of messages in memory
}
