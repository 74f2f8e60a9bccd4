package console

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"quorumhub/hub"
)

const (
	// doingWait is how long an act waits for what it began before it shows the page on which it goes on.
	doingWait = 1500 * time.Millisecond
	// doingTime bounds what is begun.
	doingTime = 2 * time.Minute
	// maxDoing bounds what goes on at a node at a time, and keptDoings how much of what has ended is remembered.
	maxDoing, keptDoings = 16, 16
)

// doing is something that may take longer than a page may wait, and that was begun at this node.
type doing struct {
	What, By     string
	Began, Ended time.Time // Ended is zero while it goes on
	Err          string    // why it failed; empty: it did not
}

// Badge is how it is doing.
func (d doing) Badge() badge {
	switch {
	case d.Ended.IsZero():
		return badge{stateInfo, "goes on"}
	case d.Err != "":
		return badge{stateBad, "failed"}
	}
	return badge{stateGood, "done"}
}

// doings are those of a node. Safe for concurrent use.
type doings struct {
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	all  []*doing // the newest last
	open int
}

func (d *doings) init() { d.ctx, d.stop = context.WithCancel(context.Background()) }

func (d *doings) close() {
	d.mu.Lock()
	d.stop()
	d.mu.Unlock()
	d.running.Wait()
}

var errManyDoings = hub.Errorf(hub.CodeUnavailable, "this node is doing as much as it may at a time; try again when some of it has ended")

// begin runs do in the background with the values of ctx. The channel yields its error.
func (d *doings) begin(ctx context.Context, what, by string, now func() time.Time, do func(context.Context) error) (<-chan error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open >= maxDoing || d.ctx.Err() != nil {
		return nil, errManyDoings
	}
	one := &doing{What: what, By: by, Began: now()}
	d.all = append(d.all, one)
	d.open++
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), doingTime)
	stop := context.AfterFunc(d.ctx, cancel)
	done := make(chan error, 1)
	d.running.Go(func() {
		defer cancel()
		defer stop()
		err := do(ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open--
		one.Ended = now()
		if err != nil {
			one.Err = err.Error()
		}
		if n := len(d.all) - d.open - keptDoings; n > 0 {
			d.all = slices.DeleteFunc(d.all, func(x *doing) bool {
				n--
				return n >= 0 && !x.Ended.IsZero()
			})
		}
		done <- err
	})
	return done, nil
}

// list returns what goes on and what has ended lately, the newest first.
func (d *doings) list() (out []doing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range slices.Backward(d.all) {
		out = append(out, *one)
	}
	return out
}

// take begins something that may take long and sends the browser to a page, where it is shown how it goes on. What ends at once is
// reported at once.
func (c *Console) take(w http.ResponseWriter, r *http.Request, to, what, success string, do func(context.Context) error) {
	v := c.viewer(r.Context())
	done, err := c.doings.begin(r.Context(), what, v.Name, c.now, do)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	wait := time.NewTimer(doingWait)
	defer wait.Stop()
	select {
	case err := <-done:
		if err != nil {
			c.fail(w, r, err)
			return
		}
		c.done(w, to, success)
	case <-wait.C:
		c.done(w, to, what+": it has begun and goes on, whether this page stays open or not.")
	case <-r.Context().Done():
	}
}
