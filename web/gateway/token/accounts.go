package token

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Account is what a service knows of a caller.
type Account struct {
	// Name is that of the user at the service; empty: the same as the caller's.
	Name string `json:"account,omitempty"`
	// Claims may go into tokens, see Grant.Claims.
	Claims map[string]any `json:"claims,omitempty"`
}

func (a *Account) subject(c *Caller) string { return cmp.Or(a.Name, c.Username, c.Subject) }

// Accounts finds the account of a caller. Safe for concurrent use.
type Accounts interface {
	// Of returns the account of a caller, ErrNoAccount if it has none, and other errors if that cannot be said now.
	Of(ctx context.Context, c *Caller) (*Account, error)
}

// ErrNoAccount means that a caller has no account at a service.
var ErrNoAccount = errors.New("the caller has no account")

// Everybody gives an account to every caller.
type Everybody struct{}

// Of implements Accounts.
func (Everybody) Of(context.Context, *Caller) (*Account, error) { return &Account{}, nil }

// List is a list of accounts. It is immutable.
type List struct {
	by map[listKey][]*listed // by what most entries name
}

// listed is an entry of a list: the account of the callers for whom all that it names holds.
type listed struct {
	ID           *string `json:"id"`
	Issuer       *string `json:"issuer"`
	Subject      *string `json:"subject"`
	Username     *string `json:"username"`
	SourceSystem *string `json:"source_system"`
	TargetSystem *string `json:"target_system"`
	Account
}

// listKey is the name that an entry is found by.
type listKey struct{ kind, name string }

// maxListed bounds the accounts of a list.
const maxListed = 200_000

// ParseList reads a list of accounts in JSON: {"accounts": [{"username": "jdoe", "account": "J.DOE", "claims": {"roles": ["clerk"]}}]}.
// Each entry names callers by id, by subject and issuer, or by username, and may name their source_system and target_system, too. Errors name the
// entry and what is expected.
func ParseList(text []byte) (*List, error) {
	const expected = `expected JSON such as {"accounts": [{"username": "jdoe", "account": "J.DOE", "claims": {"roles": ["clerk"]}}]}`
	var in struct {
		Accounts *[]*listed `json:"accounts"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(&in); err != nil {
		return nil, fmt.Errorf("not a list of accounts (%w); %s", err, expected)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one JSON value; " + expected)
	}
	switch {
	case in.Accounts == nil:
		return nil, errors.New("has no accounts; " + expected)
	case len(*in.Accounts) > maxListed:
		return nil, fmt.Errorf("has %d accounts; expected at most %d, or a URL that knows them", len(*in.Accounts), maxListed)
	}
	l := &List{by: map[listKey][]*listed{}}
	for i, e := range *in.Accounts {
		key, ok := e.key()
		switch {
		case !ok:
			return nil, fmt.Errorf("accounts[%d]: names nobody; expected an id, a subject or a username that is not empty", i)
		case key.kind == "subject" && e.Issuer == nil:
			return nil, fmt.Errorf("accounts[%d]: names a subject without its issuer; another issuer may know the same name, so expected both (the hub's own callers have the issuer \"\")", i)
		}
		l.by[key] = append(l.by[key], e)
	}
	return l, nil
}

func (e *listed) key() (key listKey, ok bool) {
	if e == nil {
		return key, false
	}
	for _, k := range []struct {
		kind string
		name *string
	}{{"id", e.ID}, {"username", e.Username}, {"subject", e.Subject}} {
		if k.name != nil {
			return listKey{k.kind, *k.name}, *k.name != ""
		}
	}
	return key, false
}

// Of implements Accounts. Of several entries for a caller the first counts.
func (l *List) Of(_ context.Context, c *Caller) (*Account, error) {
	for _, key := range []listKey{{"id", c.ID}, {"username", c.Username}, {"subject", c.Subject}} {
		if key.name == "" {
			continue
		}
		for _, e := range l.by[key] {
			if e.is(c) {
				return &e.Account, nil
			}
		}
	}
	return nil, ErrNoAccount
}

func (e *listed) is(c *Caller) bool {
	for _, p := range []struct {
		want *string
		got  string
	}{{e.ID, c.ID}, {e.Issuer, c.Issuer}, {e.Subject, c.Subject}, {e.Username, c.Username}, {e.SourceSystem, c.SourceSystem}, {e.TargetSystem, c.TargetSystem}} {
		if p.want != nil && *p.want != p.got {
			return false
		}
	}
	return true
}

// Newest returns the newest message of a topic, with a mark that changes with it; the mark is empty if there is none.
type Newest func(ctx context.Context, topic string, known string) (mark string, content []byte, err error)

// Topic is the list of accounts that is the newest message of a topic. Make one with NewTopic.
type Topic struct {
	name   string
	newest Newest

	mu   sync.Mutex
	mark string
	list *List
	err  error
}

// NewTopic returns the accounts that a topic's newest message lists, in the form of ParseList. newest is told the mark that is known
// already, and then need not return the content again.
func NewTopic(name string, newest Newest) *Topic { return &Topic{name: name, newest: newest} }

// Of implements Accounts. A message that is no list makes nobody's account known until the next one.
func (t *Topic) Of(ctx context.Context, c *Caller) (*Account, error) {
	list, err := t.read(ctx)
	if err != nil {
		return nil, err
	}
	return list.Of(ctx, c)
}

func (t *Topic) read(ctx context.Context) (*List, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mark, content, err := t.newest(ctx, t.name, t.mark)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the accounts in topic %s: %w", t.name, err)
	case mark == "":
		return nil, ErrNoAccount
	case mark == t.mark:
		return t.list, t.err
	}
	t.mark = mark
	if t.list, t.err = ParseList(content); t.err != nil {
		t.err = fmt.Errorf("the newest message of topic %s: %w", t.name, t.err)
	}
	return t.list, t.err
}

const (
	remoteTimeout  = 3 * time.Second
	maxAnswerBytes = 64 << 10
	maxCached      = 10_000
	// cacheYes and cacheNo are how long answers count.
	cacheYes = time.Minute
	cacheNo  = 10 * time.Second
	// maxAsking bounds the questions under way.
	maxAsking = 64
)

// Remote asks a URL for the account of each caller. Make one with NewRemote.
type Remote struct {
	at     *url.URL
	client *http.Client
	clock  func() time.Time
	asking chan struct{}

	mu    sync.Mutex
	cache map[Caller]*answer
}

// answer is what a URL said about a caller, or will say.
type answer struct {
	done    chan struct{} // closed once the rest is known
	account *Account      // nil: none
	err     error
	until   time.Time
}

// NewRemote asks through transport, which must be able to reach that URL and should be able to reach nothing else.
//
// The question is GET <url>?id=..&issuer=..&subject=..&username=..&source_system=..&target_system=.. without what is empty. The answer 200
// with JSON such as {"account": "J.DOE", "claims": {"roles": ["clerk"]}} means that there is an account, 404 that there is none. Answers count
// for a minute, those that there is none for 10 seconds.
func NewRemote(at string, transport http.RoundTripper, clock func() time.Time) (*Remote, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: transport, Timeout: remoteTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Remote{at: u, client: client, clock: clock, asking: make(chan struct{}, maxAsking), cache: map[Caller]*answer{}}, nil
}

// Of implements Accounts. Callers who ask for the same account at the same time share one question.
func (r *Remote) Of(ctx context.Context, c *Caller) (*Account, error) {
	r.mu.Lock()
	a := r.cache[*c]
	if a != nil && !a.fresh(r.clock()) {
		a = nil
	}
	if a == nil {
		if len(r.cache) >= maxCached {
			r.shrinkLocked()
		}
		a = &answer{done: make(chan struct{})}
		r.cache[*c] = a
		r.mu.Unlock()
		// The question goes on for the others if this caller leaves; the client's timeout bounds it.
		r.find(context.WithoutCancel(ctx), c, a)
	} else {
		r.mu.Unlock()
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case a.err != nil:
		return nil, a.err
	case a.account == nil:
		return nil, ErrNoAccount
	}
	return a.account, nil
}

func (a *answer) fresh(now time.Time) bool {
	select {
	case <-a.done:
		return now.Before(a.until)
	default:
		return true
	}
}

// shrinkLocked makes room: it forgets what counts no more and, if that is not enough, answers at random.
func (r *Remote) shrinkLocked() {
	now := r.clock()
	for c, a := range r.cache {
		if !a.fresh(now) {
			delete(r.cache, c)
		}
	}
	for c := range r.cache {
		if len(r.cache) < maxCached*9/10 {
			return
		}
		delete(r.cache, c)
	}
}

// find asks, and settles the answer. Failures are not remembered.
func (r *Remote) find(ctx context.Context, c *Caller, a *answer) {
	defer close(a.done)
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
		a.account, a.err = r.ask(ctx, c)
	default:
		a.err = errors.New("too many callers ask for their accounts at once")
	}
	switch {
	case a.err != nil:
	case a.account == nil:
		a.until = r.clock().Add(cacheNo)
	default:
		a.until = r.clock().Add(cacheYes)
	}
}

func (r *Remote) ask(ctx context.Context, c *Caller) (*Account, error) {
	u := *r.at
	q := u.Query()
	for name, value := range map[string]string{"id": c.ID, "issuer": c.Issuer, "subject": c.Subject, "username": c.Username, "source_system": c.SourceSystem, "target_system": c.TargetSystem} {
		if value != "" {
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL says who calls
		}
		return nil, fmt.Errorf("ask for an account: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, nil //nolint:nilnil // nil means none
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("ask for an account: the answer was %d; expected 200 or 404", resp.StatusCode)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, errors.New("ask for an account: the answer is not application/json")
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("ask for an account: %w", err)
	}
	if len(text) > maxAnswerBytes {
		return nil, fmt.Errorf("ask for an account: the answer is longer than %d bytes", maxAnswerBytes)
	}
	out := new(Account)
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(out); err != nil {
		return nil, fmt.Errorf("ask for an account: %w", err)
	}
	return out, nil
}

// Close closes idle connections.
func (r *Remote) Close() { r.client.CloseIdleConnections() }
