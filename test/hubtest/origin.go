package hubtest

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// Origin is a publisher's web server. It serves the topics that the hub fetches after a ping, with ETag and
// Last-Modified, and answers conditional requests.
type Origin struct {
	*recorder

	mu     sync.Mutex
	pages  map[string]Page
	script func(Request) (Answer, bool)
}

// Page is a topic's content.
type Page struct {
	ContentType  string
	Body         []byte
	ETag         string // with quotes
	LastModified string
	Header       http.Header
}

// NewOrigin starts an origin that ends with the test.
func NewOrigin(tb testing.TB) *Origin {
	tb.Helper()
	o := &Origin{pages: map[string]Page{}}
	o.recorder = newRecorder(tb, processHost(), false, o.respond)
	return o
}

// Put sets the content at a path and returns its URL.
func (o *Origin) Put(path string, p Page) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pages[path] = p
	return o.URL + path
}

// Script sets a function that may answer a request instead of the pages, by returning true.
func (o *Origin) Script(f func(Request) (Answer, bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.script = f
}

func (o *Origin) respond(r Request) Answer {
	o.mu.Lock()
	page, ok := o.pages[r.URI]
	script := o.script
	o.mu.Unlock()
	if script != nil {
		if a, answered := script(r); answered {
			return a
		}
	}
	if !ok {
		return Answer{Status: http.StatusNotFound, Body: fmt.Appendf(nil, "no page at %s", r.URI)}
	}
	h := page.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("ETag", page.ETag)
	set("Last-Modified", page.LastModified)
	set("Content-Type", page.ContentType)
	if page.ETag != "" && r.Header.Get("If-None-Match") == page.ETag ||
		page.ETag == "" && page.LastModified != "" && r.Header.Get("If-Modified-Since") == page.LastModified {
		return Answer{Status: http.StatusNotModified, Header: h}
	}
	return Answer{Header: h, Body: page.Body}
}

// Fetches returns the requests for a path and query.
func (o *Origin) Fetches(uri string) []Request {
	return o.Select(func(r Request) bool { return r.URI == uri })
}

// WaitFetches waits for at least n requests for a path and query.
func (o *Origin) WaitFetches(tb testing.TB, uri string, n int) []Request {
	tb.Helper()
	return o.WaitFor(tb, n, "fetches of "+uri, func(r Request) bool { return r.URI == uri })
}
