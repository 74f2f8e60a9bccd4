package form

import (
	"fmt"
	"sync"
	"time"

	"quorumhub/auth"
)

// LimitError refuses an attempt because too many have failed lately; nothing was looked at. It is a *auth.RefusalError, too.
type LimitError struct {
	// After is how long to wait before the next attempt.
	After   time.Duration
	refusal *auth.RefusalError
}

func (e *LimitError) Error() string { return e.refusal.Error() }
func (e *LimitError) Unwrap() error { return e.refusal }

// RetryAfter is After, for those who know nothing of forms.
func (e *LimitError) RetryAfter() time.Duration { return e.After }

// maxCounted is how many names, and how many clients, are counted at once.
const maxCounted = 4096

// attempts allows each of many a number of failures, and one more each time some time has passed. It forgets who failed longest ago when
// there are too many.
type attempts struct {
	most  int
	every time.Duration

	mu    sync.Mutex
	spent map[string]*spending
}

// spending is how much of its attempts somebody has used.
type spending struct {
	n  float64
	at time.Time
}

func newAttempts(most int, every time.Duration) *attempts {
	return &attempts{most: most, every: every, spent: map[string]*spending{}}
}

// take uses one attempt, or returns how long to wait for one. Whoever succeeds gives it back.
func (a *attempts) take(who string, now time.Time) (wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.spent[who]
	if s == nil {
		a.makeRoomLocked(now)
		s = &spending{at: now}
		a.spent[who] = s
	}
	a.restLocked(s, now)
	if s.n+1 > float64(a.most) {
		return max(time.Second, time.Duration((s.n+1-float64(a.most))*float64(a.every)))
	}
	s.n++
	return 0
}

func (a *attempts) giveBack(who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.spent[who]; s != nil {
		s.n = max(0, s.n-1)
	}
}

// restLocked gives back what time has given.
func (a *attempts) restLocked(s *spending, now time.Time) {
	if passed := now.Sub(s.at); passed > 0 {
		s.n = max(0, s.n-float64(passed)/float64(a.every))
		s.at = now
	}
}

func (a *attempts) makeRoomLocked(now time.Time) {
	if len(a.spent) < maxCounted {
		return
	}
	oldest := ""
	for who, s := range a.spent {
		if a.restLocked(s, now); s.n == 0 {
			delete(a.spent, who)
		} else if oldest == "" || s.n < a.spent[oldest].n {
			oldest = who // the one with the least to forget
		}
	}
	if len(a.spent) >= maxCounted {
		delete(a.spent, oldest)
	}
}

func refuse(format string, args ...any) *auth.RefusalError {
	return &auth.RefusalError{Method: auth.MethodSession, Reason: fmt.Sprintf(format, args...)}
}
