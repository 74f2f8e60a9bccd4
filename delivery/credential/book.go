package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// Options configures a Book. All fields are required.
type Options struct {
	State     hub.StateReader
	Secrets   hub.SecretBox
	Client    http.RoundTripper // an *egress.Client; carries requests for tokens
	Clock     hub.Clock
	UserAgent string
}

// Book knows what goes with requests to callbacks. It is a hub.Observer. Safe for concurrent use.
type Book struct {
	o       Options
	version atomic.Uint64 // rises with every change of operators' credentials
	any     atomic.Bool   // operators have set some

	mu     sync.Mutex
	tokens map[string]*tokens // by pattern; of at most hub.MaxCallbackCredentials
}

// NewBook returns a book of the present state.
func NewBook(o Options) *Book {
	b := &Book{o: o, tokens: map[string]*tokens{}}
	b.Reload()
	return b
}

// Applied implements hub.Observer.
func (b *Book) Applied(fx *hub.Effects) {
	if fx.CallbacksChanged {
		b.Reload()
	}
}

// Reload starts over from a state that a snapshot has replaced.
func (b *Book) Reload() {
	b.o.State.View(func(s *hub.State) { b.any.Store(s.HasCallbackCredentials()) })
	b.version.Add(1)
}

// Error says why a request cannot be made. Reason is ReasonSecret if something cannot be opened, else ReasonCredentials.
type Error struct {
	Reason egress.Reason
	err    error
}

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Page is what goes with requests to one callback; the zero Page is nothing. Not safe for concurrent use.
type Page struct {
	book     *Book
	callback string
	sealed   string // the subscriber's headers
	bound    string

	version uint64 // of the book when the rest was filled in; 0: never
	fields  []egress.Field
	tokens  *tokens // nil: none needed
	used    string  // the last token
}

// For returns the page of a callback. sealed are the headers that the subscriber asked for, bound to bound; empty: none.
// A nil Book has empty pages.
func (b *Book) For(callback, sealed, bound string) Page {
	return Page{book: b, callback: callback, sealed: sealed, bound: bound}
}

// Append appends the fields of the next request. Errors are *Error or ctx's.
func (p *Page) Append(ctx context.Context, out []egress.Field) ([]egress.Field, error) {
	if p.book == nil {
		return out, nil
	}
	if v := p.book.version.Load(); v != p.version {
		if err := p.open(); err != nil {
			return nil, &Error{egress.ReasonSecret, err}
		}
		p.version = v
	}
	out = append(out, p.fields...)
	if p.tokens == nil {
		return out, nil
	}
	token, err := p.tokens.get(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &Error{egress.ReasonCredentials, err}
	}
	p.used = token
	return append(out, egress.Field{Name: authorization, Value: "Bearer " + token}), nil
}

// Refused says that the callback answered 401: the next request has another token.
func (p *Page) Refused() {
	if p.tokens != nil {
		p.tokens.drop(p.used)
	}
}

const authorization = "Authorization"

// open fills in the page. What the operator has set goes before what the subscriber asked for.
func (p *Page) open() error {
	b := p.book
	p.fields, p.tokens = p.fields[:0], nil
	if p.sealed == "" && !b.any.Load() {
		return nil
	}
	headers := map[string]string{}
	if p.sealed != "" {
		c, err := b.openSealed([]byte(p.sealed), p.bound)
		if err != nil {
			return fmt.Errorf("open the subscriber's headers: %w", err)
		}
		maps.Copy(headers, c.Headers)
	}
	var pattern string
	var sealed []byte
	var set bool
	b.o.State.View(func(s *hub.State) { pattern, sealed, set = s.CredentialsFor(p.callback) })
	if set {
		c, err := b.openSealed(sealed, hub.CallbackBinding(pattern))
		if err != nil {
			return fmt.Errorf("open the credentials for the callback: %w", err)
		}
		maps.Copy(headers, c.Headers)
		switch {
		case c.Basic != nil:
			headers[authorization] = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Basic.User+":"+c.Basic.Password))
		case c.Bearer != "":
			headers[authorization] = "Bearer " + c.Bearer
		case c.OAuth2 != nil:
			delete(headers, authorization)
			p.tokens = b.tokensFor(pattern, c.OAuth2)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		p.fields = append(p.fields, egress.Field{Name: name, Value: headers[name]})
	}
	return nil
}

func (b *Book) openSealed(sealed []byte, bound string) (hub.Credentials, error) {
	text, err := b.o.Secrets.Open(sealed, bound)
	if err != nil {
		return hub.Credentials{}, err
	}
	c, err := hub.ParseCredentials(text)
	if err != nil {
		return c, errors.New("what was sealed is not understood") // not err, which may quote it
	}
	return c, nil
}

// tokensFor returns the tokens of a pattern, shared by all callbacks that match it.
func (b *Book) tokensFor(pattern string, c *hub.ClientCredentials) *tokens {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tokens[pattern]
	if t == nil || t.of != *c {
		if len(b.tokens) >= hub.MaxCallbackCredentials {
			clear(b.tokens) // of patterns that are gone, too
		}
		t = newTokens(b, *c)
		b.tokens[pattern] = t
	}
	return t
}
