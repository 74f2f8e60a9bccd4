package raftlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/raftlog"
	"quorumhub/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A killed node leaves futures that raft never resolves, and goroutines waiting for them.
		goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*deferError).Error"),
	)
}

// member is one node and its files, which outlive it.
type member struct {
	t      testing.TB
	id     string
	dir    string
	faults raftlog.Faults
	// options and files change the options that start uses.
	options func(*raftlog.Options)
	files   func(*store.Options)
	fatal   chan error

	store *store.Store
	node  *raftlog.Node
}

func newMember(t testing.TB, id string) *member {
	return &member{t: t, id: id, dir: t.TempDir(), fatal: make(chan error, 16)}
}

func (m *member) open(ctx context.Context) error {
	so := store.Options{Dir: filepath.Join(m.dir, "store"), FlushInterval: 50 * time.Millisecond, Fatal: m.failed}
	if m.files != nil {
		m.files(&so)
	}
	s, err := store.Open(so)
	if err != nil {
		return err
	}
	o := raftlog.Options{ID: m.id, Dir: m.dir, Store: s, Fatal: m.failed}
	if m.options != nil {
		m.options(&o)
	}
	n, err := raftlog.OpenFaulty(ctx, o, m.faults)
	if err != nil {
		return errors.Join(err, s.Crash())
	}
	m.store, m.node = s, n
	return nil
}

func (m *member) failed(err error) {
	select {
	case m.fatal <- err:
	default:
	}
}

// noFailure returns the error passed to Options.Fatal, if any.
func (m *member) noFailure() error {
	select {
	case err := <-m.fatal:
		return fmt.Errorf("node %s stopped: %w", m.id, err)
	default:
		return nil
	}
}

func (m *member) start() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.open(ctx); err != nil {
		m.t.Fatalf("start %s: %v", m.id, err)
	}
}

// kill ends the node without flushing anything.
func (m *member) kill() {
	m.t.Helper()
	if m.node == nil {
		return
	}
	if err := errors.Join(m.node.Abort(), m.store.Crash()); err != nil {
		m.t.Errorf("kill %s: %v", m.id, err)
	}
	m.node, m.store = nil, nil
}

func (m *member) stop() {
	m.t.Helper()
	if err := errors.Join(m.node.Close(context.Background()), m.store.Close()); err != nil {
		m.t.Errorf("stop %s: %v", m.id, err)
	}
	m.node, m.store = nil, nil
}

// hash returns the state's rolling hash and the number of published messages.
func (m *member) hash() (hash uint64, messages uint64) {
	m.store.View(func(s *hub.State) {
		hash = s.Hash()
		messages, _ = s.Published()
	})
	return hash, messages
}

func publish(topic, body string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: topic, ContentType: "text/plain", Body: []byte(body), AutoRegister: true,
	}}}
}

func events(e ...*hubpb.Event) []*hubpb.Event { return e }

func cursors(n int) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{
		Node: "n", Cursors: []*hubpb.Cursor{{Subscription: uint64(n), Offset: 1}},
	}}}
}

// ledger records what publishers were told.
type ledger struct {
	mu           sync.Mutex
	acked        map[messageKey]string // to body
	acknowledged int
	unknown      int // attempts with unknown outcome
	wrong        []string
}

type messageKey struct {
	topic  hub.TopicID
	offset uint64
}

func newLedger() *ledger { return &ledger{acked: map[messageKey]string{}} }

func (l *ledger) record(r hub.Result, body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := messageKey{r.Topic, r.Offset}
	if r.Outcome != hub.OutcomeOK {
		l.wrong = append(l.wrong, fmt.Sprintf("outcome %d", r.Outcome))
		return
	}
	if old, ok := l.acked[k]; ok && old != body {
		l.wrong = append(l.wrong, fmt.Sprintf("%v acknowledged for two messages", k))
	}
	l.acked[k] = body
	l.acknowledged++
}

// publish publishes to what node returns until stop is closed. Every body is unique.
func (l *ledger) publish(stop <-chan struct{}, writer int, node func() *raftlog.Node) {
	ctx := context.Background()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		n := node()
		if n == nil {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			continue
		}
		body := fmt.Sprintf("w%d-%d-%s", writer, i, bytes.Repeat([]byte("x"), 200))
		res, err := n.Propose(ctx, publish(fmt.Sprintf("t%d", writer%3), body))
		if err != nil {
			l.mu.Lock()
			l.unknown++
			l.mu.Unlock()
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			continue
		}
		l.record(res[0], body)
	}
}

// missing counts the acknowledged messages that s does not hold unchanged.
func (l *ledger) missing(s *store.Store) (missing int, example string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := map[messageKey]string{}
	topics := map[hub.TopicID]bool{}
	for k := range l.acked {
		topics[k.topic] = true
	}
	for topic := range topics {
		for from := uint64(1); ; {
			ms, err := s.Read(topic, from, 10000, 8<<20)
			if err != nil {
				example = err.Error()
				break
			}
			if len(ms) == 0 {
				break
			}
			for _, m := range ms {
				held[messageKey{topic, m.Offset}] = string(m.Body)
			}
			from = ms[len(ms)-1].Offset + 1
		}
	}
	for k, body := range l.acked {
		if held[k] != body {
			missing++
			if example == "" {
				example = fmt.Sprintf("message %d-%d", k.topic, k.offset)
			}
		}
	}
	return missing, example
}

func (l *ledger) check(s *store.Store) error {
	missing, example := l.missing(s)
	var errs []error
	if missing > 0 {
		errs = append(errs, fmt.Errorf("%d of %d acknowledged messages are missing or changed, for example: %s", missing, len(l.acked), example))
	}
	if len(l.wrong) > 0 {
		errs = append(errs, fmt.Errorf("wrong answers: %v", l.wrong[:min(3, len(l.wrong))]))
	}
	return errors.Join(errs...)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // poll interval
	}
}

func inmem(id string) *raft.InmemTransport {
	_, t := raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), 2*time.Second)
	return t
}

func mustProblem(t *testing.T, err error, file string, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("the node started")
	}
	var fe *raftlog.FileError
	if !errors.As(err, &fe) || filepath.Base(fe.File) != file || fe.Hint == "" {
		t.Fatalf("got %T %v, want a FileError about %s with a hint", err, err, file)
	}
	for _, w := range words {
		if !bytes.Contains([]byte(err.Error()), []byte(w)) {
			t.Errorf("%q does not contain %q", err, w)
		}
	}
	if bytes.ContainsRune([]byte(err.Error()), '\n') {
		t.Errorf("%q is more than one line", err)
	}
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
