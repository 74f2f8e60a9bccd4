package console

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/sse"
)

const (
	// liveParam in a page's URL asks for its live updates.
	liveParam = "live"
	// maxStudios bounds the producers of live pages of a node, and maxAudience the viewers of all.
	maxStudios  = 512
	maxAudience = 4096
)

// liveURL returns the URL of a page's live updates, relative to the page.
func liveURL(r *http.Request) string {
	q := r.URL.Query()
	q.Set(liveParam, "1")
	return "?" + q.Encode()
}

// swap is an event of a live page: the element with the ID is to be replaced.
type swap struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// studios make what live pages show, one for each page, URL and scope of viewers. Safe for concurrent use.
type studios struct {
	c       *Console
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	audience int
	byKey    map[studioKey]*studio
}

// studioKey is what viewers must have in common to share a studio.
type studioKey struct{ path, query, scope string }

// studio renders the fragments of one page as long as somebody looks at it. mu of studios guards viewers, and mu the rest.
type studio struct {
	viewers int
	end     context.CancelFunc

	mu      sync.Mutex
	frames  [][]byte // the encoded event of each fragment; nil: not rendered yet
	changed []uint64 // the round in which each changed last
	round   uint64
	next    chan struct{} // closed and replaced when a fragment changes
	err     error         // why it has ended
}

func (s *studios) init(c *Console) {
	s.c, s.byKey = c, map[studioKey]*studio{}
	s.ctx, s.stop = context.WithCancel(context.Background())
}

func (s *studios) close() {
	s.stop()
	s.running.Wait()
}

var errCrowded = hub.Errorf(hub.CodeUnavailable, "too many live pages are open at this node; this page does not change by itself")

// enter returns the studio for a key, which a new one begins to run with make. Call leave once when done.
func (s *studios) enter(key studioKey, fragments int, run func(context.Context, *studio)) (_ *studio, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byKey[key]
	if s.audience >= maxAudience || st == nil && len(s.byKey) >= maxStudios || s.ctx.Err() != nil {
		return nil, nil, errCrowded
	}
	if st == nil {
		st = &studio{frames: make([][]byte, fragments), changed: make([]uint64, fragments), next: make(chan struct{})}
		var ctx context.Context
		ctx, st.end = context.WithCancel(s.ctx)
		s.byKey[key] = st
		s.running.Go(func() { run(ctx, st) })
	}
	st.viewers++
	s.audience++
	return st, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.audience--
		if st.viewers--; st.viewers == 0 {
			st.end()
			if s.byKey[key] == st {
				delete(s.byKey, key)
			}
		}
	}, nil
}

// forget makes those who come from now on begin anew.
func (s *studios) forget(key studioKey, st *studio) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == st {
		delete(s.byKey, key)
	}
}

// live streams the fragments of a page as they change. The first events are those that the page was rendered with, or newer ones.
func (c *Console) live(w http.ResponseWriter, r *http.Request, s sheet) {
	v := c.viewer(r.Context())
	q := r.URL.Query()
	q.Del(liveParam)
	key := studioKey{r.URL.EscapedPath(), q.Encode(), v.scope()}
	if s.personal {
		key.scope += " for " + v.ID
	}
	caller := auth.CallerOf(r.Context())
	st, leave, err := c.studios.enter(key, len(s.fragments), func(ctx context.Context, st *studio) {
		err := c.produce(auth.WithCaller(ctx, caller), st, s)
		c.studios.forget(key, st)
		st.finish(err)
	})
	if err != nil {
		c.fail(w, r, err)
		return
	}
	defer leave()
	if err := st.begun(r.Context()); err != nil {
		c.fail(w, r, err)
		return
	}
	ctx, out, done, err := c.Ports.OpenStream(w, r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	defer done()
	if r.Method == http.MethodHead {
		return
	}
	c.watch(ctx, out, st)
}

// produce renders the fragments every Refresh until ctx ends or the page cannot be built any more.
func (c *Console) produce(ctx context.Context, st *studio, s sheet) error {
	tick := time.NewTicker(c.Refresh)
	defer tick.Stop()
	for {
		in, err := s.build(ctx)
		if err != nil && ctx.Err() == nil && !temporary(err) {
			return err // what the page is about has ended
		}
		if err == nil {
			if err := st.render(c.pages[s.template], s.fragments, &frame{content: *in, Section: s.section}); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// temporary reports whether what failed may work at the next try.
func temporary(err error) bool {
	p := problem.Of(err)
	return p != nil && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests)
}

// render renders all fragments and keeps those that have changed.
func (st *studio) render(t *template.Template, fragments []string, fr *frame) error {
	fresh := make([][]byte, len(fragments))
	for i, name := range fragments {
		var b bytes.Buffer
		err := t.ExecuteTemplate(&b, name, fr)
		if err == nil {
			fresh[i], err = sse.Encode("swap", "", swap{name, b.String()})
		}
		if err != nil {
			return err
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.round++
	news := false
	for i, f := range fresh {
		if !bytes.Equal(f, st.frames[i]) {
			st.frames[i], st.changed[i], news = f, st.round, true
		}
	}
	if news {
		close(st.next)
		st.next = make(chan struct{})
	}
	return nil
}

// finish tells the viewers that nothing more comes.
func (st *studio) finish(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.err = err
	if st.err == nil {
		st.err = context.Canceled
	}
	close(st.next)
	st.next = make(chan struct{})
}

// since returns the fragments that have changed after a round, the round now, and a channel that is closed when another does.
func (st *studio) since(round uint64) (frames [][]byte, now uint64, next <-chan struct{}, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i, f := range st.frames {
		if f != nil && st.changed[i] > round {
			frames = append(frames, f)
		}
	}
	return frames, st.round, st.next, st.err
}

// begun waits until there is something to show, or returns why there is nothing.
func (st *studio) begun(ctx context.Context) error {
	for {
		_, round, next, err := st.since(0)
		if err != nil || round > 0 {
			return err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch sends a viewer what changes, until ctx ends or nothing more comes; browsers come back then, and learn what has become of the
// page. A viewer that is slow gets the newest state of each fragment, not all that came between.
func (c *Console) watch(ctx context.Context, out *sse.Writer, st *studio) {
	beat := time.NewTicker(c.Heartbeat)
	defer beat.Stop()
	// Not all at once, when a node stops.
	_, err := fmt.Fprintf(out, "retry: %d\n\n", 500+rand.IntN(1000))
	for seen := uint64(0); err == nil; {
		frames, round, next, ended := st.since(seen)
		seen = round
		for _, f := range frames {
			if _, err = out.Write(f); err != nil {
				return
			}
		}
		if ended != nil || out.Flush() != nil {
			return
		}
		select {
		case <-next:
		case <-beat.C:
			err = out.Heartbeat()
		case <-ctx.Done():
			return
		}
	}
}

// queryOf returns the query of a page without what is not about its content.
func queryOf(r *http.Request) url.Values {
	q := r.URL.Query()
	q.Del(liveParam)
	return q
}
