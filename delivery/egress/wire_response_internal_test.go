package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// rest returns what is left in a reader.
func rest(t *testing.T, br *bufio.Reader) string {
	t.Helper()
	b, err := io.ReadAll(br)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type responseCase struct {
	in         string
	status     int
	retryAfter string
	reuse      bool
	err        error
}

// responseCases are responses, well-formed and not.
func responseCases(ok, long string) map[string]responseCase {
	return map[string]responseCase{
		"empty body":                {in: ok + "Content-Length: 0\r\n\r\n", status: 200, reuse: true},
		"body":                      {in: ok + "content-LENGTH:\t5 \r\n\r\nhello", status: 200, reuse: true},
		"no reason":                 {in: "HTTP/1.1 204\r\n\r\n", status: 204, reuse: true},
		"strange reason":            {in: "HTTP/1.1 202 \xc3\xa4\xff\t!\r\nContent-Length: 0\r\n\r\n", status: 202, reuse: true},
		"newer minor version":       {in: "HTTP/1.9 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		"bare line feeds":           {in: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", status: 200, reuse: true},
		"interim responses":         {in: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n", status: 200, reuse: true},
		"long ignored line":         {in: ok + "X-Long: " + long + "\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		"folded ignored line":       {in: ok + "X-A: b\r\n c: d\r\n\te\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		"Latin-1 value":             {in: ok + "X-A: \xe4\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		"equal lengths":             {in: ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", status: 200, reuse: true},
		"chunks":                    {in: ok + "Transfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", status: 200, reuse: true},
		"retry after":               {in: "HTTP/1.1 503 x\r\nRetry-After:  7 \r\nRetry-After: 8\r\nContent-Length: 0\r\n\r\n", status: 503, retryAfter: "7", reuse: true},
		"not modified with length":  {in: "HTTP/1.1 304 x\r\nContent-Length: 99\r\n\r\n", status: 304, reuse: true},
		"old, kept":                 {in: "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", status: 200, reuse: true},
		"old":                       {in: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200},
		"old, chunked":              {in: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 200},
		"close":                     {in: ok + "Connection: x, CLOSE\r\nContent-Length: 0\r\n\r\n", status: 200},
		"until close":               {in: ok + "\r\nhello", status: 200},
		"more than announced":       {in: ok + "Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n", status: 200},
		"less than announced":       {in: ok + "Content-Length: 9\r\n\r\nx", status: 200},
		"body too long to read":     {in: ok + "Content-Length: 10240\r\n\r\n" + long, status: 200},
		"no content with length":    {in: "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\nhello", status: 204},
		"no content with chunks":    {in: "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", status: 204},
		"length and chunks":         {in: ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 200},
		"chunks and length":         {in: ok + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", status: 200},
		"bad chunk size":            {in: ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", status: 200},
		"huge chunk":                {in: ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx", status: 200},
		"chunk without end":         {in: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", status: 200},
		"cut off in a chunk":        {in: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe", status: 200},
		"nothing but trailers":      {in: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 2000), status: 200},
		"cut off":                   {in: ok + "Content-Le", err: io.ErrUnexpectedEOF},
		"cut off before the end":    {in: ok + "Content-Length: 0\r\n", err: io.ErrUnexpectedEOF},
		"cut off after an interim":  {in: "HTTP/1.1 100 Continue\r\n\r\n", err: io.ErrUnexpectedEOF},
		"garbage":                   {in: "\x16\x03\x01\x02\x01\r\n", err: errHeaderLine},
		"another protocol":          {in: "SSH-2.0-OpenSSH_9.2\r\n", err: errStatusLine},
		"another version":           {in: "HTTP/2.0 200 OK\r\n\r\n", err: errStatusLine},
		"no header at all":          {in: "hello\n", err: errStatusLine},
		"two digits":                {in: "HTTP/1.1 20 OK\r\n\r\n", err: errStatusLine},
		"four digits":               {in: "HTTP/1.1 2000\r\n\r\n", err: errStatusLine},
		"sign":                      {in: "HTTP/1.1 +20\r\n\r\n", err: errStatusLine},
		"below 100":                 {in: "HTTP/1.1 099 x\r\n\r\n", err: errStatusLine},
		"long status line":          {in: "HTTP/1.1 200 " + long + "\r\n\r\n", err: errStatusLine},
		"switching protocols":       {in: "HTTP/1.1 101 x\r\n\r\n", err: errSwitching},
		"space before the colon":    {in: ok + "Content-Length : 5\r\n\r\n", err: errHeaderLine},
		"no colon":                  {in: ok + "Content-Length\r\n\r\n", err: errHeaderLine},
		"no name":                   {in: ok + ": x\r\n\r\n", err: errHeaderLine},
		"folded first line":         {in: ok + " x: y\r\n\r\n", err: errHeaderLine},
		"folded length":             {in: ok + "Content-Length: 1\r\n 2\r\n\r\n", err: errHeaderLine},
		"carriage return inside":    {in: ok + "X-A: b\rContent-Length: 5\r\n\r\n", err: errHeaderLine},
		"zero byte":                 {in: ok + "X-A: \x00\r\n\r\n", err: errHeaderLine},
		"different lengths":         {in: ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", err: errLength},
		"list of lengths":           {in: ok + "Content-Length: 1, 1\r\n\r\n", err: errLength},
		"signed length":             {in: ok + "Content-Length: +1\r\n\r\n", err: errLength},
		"negative length":           {in: ok + "Content-Length: -1\r\n\r\n", err: errLength},
		"no length":                 {in: ok + "Content-Length:\r\n\r\n", err: errLength},
		"length out of range":       {in: ok + "Content-Length: 99999999999999999999\r\n\r\n", err: errLength},
		"other encoding":            {in: ok + "Transfer-Encoding: gzip\r\n\r\n", err: errEncoding},
		"two encodings":             {in: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", err: errEncoding},
		"long length":               {in: ok + "Content-Length: " + strings.Repeat("0", 5000) + "\r\n\r\n", err: errHeaderTooLong},
		"endless header":            {in: ok + strings.Repeat("X: "+long+"\r\n", 100), err: errHeaderTooLong},
		"endless interim responses": {in: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10000), err: errHeaderTooLong},
	}
}

func TestReadResponse(t *testing.T) {
	for name, c := range responseCases("HTTP/1.1 200 OK\r\n", strings.Repeat("x", 10<<10)) {
		for kind, br := range map[string]*bufio.Reader{
			"at once":      bufio.NewReaderSize(strings.NewReader(c.in), responseBuffer),
			"byte by byte": bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(c.in)), responseBuffer),
		} {
			a, err := readResponse(br)
			if !errors.Is(err, c.err) || err == nil && c.err != nil {
				t.Errorf("%s, %s: error %v, want %v", name, kind, err, c.err)
				continue
			}
			if name == "more than announced" && kind == "byte by byte" {
				continue // data that has not arrived yet cannot be seen
			}
			if err == nil && (a.Status != c.status || a.RetryAfter != c.retryAfter || a.reuse != c.reuse) {
				t.Errorf("%s, %s: %+v, want status %d, Retry-After %q, reuse %v", name, kind, a, c.status, c.retryAfter, c.reuse)
			}
		}
	}
}

// FuzzReadResponse compares with net/http, which is more lenient: every response accepted here is the same response
// there, and where the connection is reused, it is at the same byte.
func FuzzReadResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRetry-After: 3\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 503 x\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 202 x\nTransfer-Encoding: chunked\nConnection: a, close\n\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\nrest",
		"HTTP/1.1 304 x\r\nContent-Length: 12\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 410 Gone\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours := bufio.NewReaderSize(bytes.NewReader(in), responseBuffer)
		a, err := readResponse(ours)
		if err != nil {
			if a != (Response{}) {
				t.Fatalf("error %v with %+v", err, a)
			}
			return
		}
		if a.Status < 200 || a.Status > 999 {
			t.Fatalf("final status %d", a.Status)
		}
		theirs := bufio.NewReaderSize(bytes.NewReader(in), responseBuffer)
		var resp *http.Response
		for {
			if resp, err = http.ReadResponse(theirs, nil); err != nil {
				if strings.Contains(err.Error(), "bad trailer key") {
					return // a Trailer field has no meaning here
				}
				t.Fatalf("we read %+v, net/http: %v", a, err)
			}
			if resp.StatusCode >= 200 {
				break
			}
		}
		if resp.StatusCode != a.Status || strings.Trim(resp.Header.Get("Retry-After"), " \t") != a.RetryAfter {
			t.Fatalf("we read %+v, net/http %d with Retry-After %q", a, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		if !a.reuse {
			return
		}
		if resp.Close {
			t.Fatalf("we would use the connection again, net/http would not: %+v", resp)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("we read the body, net/http: %v", err)
		}
		// A response may end at the end of the buffer; more may follow then, but nothing may be missing.
		if o, h := rest(t, ours), rest(t, theirs); o != h {
			t.Fatalf("behind the answer we see %q, net/http %q", o, h)
		}
	})
}

// TestRequestIsOne: nothing that a subscriber or publisher chooses begins another header line or request.
func TestRequestIsOne(t *testing.T) {
	for _, v := range []string{"a\r\nX: y", "a\nb", "a\rb", "a\x00b", "\x7f"} {
		if fieldValue(v) {
			t.Errorf("%q passes for a header value", v)
		}
	}
	for _, v := range []string{"", "a\tb", "text/plain; charset=\"\xe4\"", "\xc3\xa4"} {
		if !fieldValue(v) {
			t.Errorf("%q is a header value", v)
		}
	}
	fields := []Field{{"Content-Type", "a/b"}, {"Link", "<l>"}, {"X-Hub-Message-Id", "1-1"}}
	for _, u := range []string{
		"http://h.example/a b", "http://h.example/?a b", "http://h.example/?a\tb", "http://h.example/%0d%0aX:%20y", "http://h.example/?x#y",
		"http://u:p@h.example/", "http://h.example:8080", "http://[2001:db8::1]:81/x", "https://H.example?q",
	} {
		target, err := url.Parse(u)
		if err != nil {
			continue
		}
		r, err := NewRoute(http.MethodPost, target, "test")
		if err != nil {
			continue
		}
		out := appendRequest(nil, &r, fields, 0)
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
		if err != nil {
			t.Errorf("%s: %v in %q", u, err, out)
			continue
		}
		if req.RequestURI != target.RequestURI() || req.Host != target.Host || len(req.Header) != 5 || bytes.Contains(out, []byte("u:p")) {
			t.Errorf("%s: %q", u, out)
		}
	}
	for _, u := range []string{"http://h.example/\r\nX: y", "http://h.example\r\n/", "http://a b/", "ftp://h.example/", "/x", "http:///x", "http://a\x00b/", "http://h.example/?a b"} {
		target, err := url.Parse(u)
		if err == nil {
			_, err = NewRoute(http.MethodPost, target, "test")
		}
		if err == nil {
			t.Errorf("%q is taken for a callback", u)
		}
	}
}

// TestCancelConn: a context with a cancelConn cuts off requests in flight and later ones, as do contexts derived from
// it.
func TestCancelConn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newWirePool((&net.Dialer{}).DialContext, ClientOptions{MaxIdlePerHost: 10, MaxIdle: 10, IdleTimeout: time.Minute})
	defer p.close()
	u := &url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/"}
	r, err := NewRoute("POST", u, "test")
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	parent, stop := context.WithCancel(t.Context())
	defer stop()
	ctx, cancel := WithCancelConn(parent)
	derived, cancelDerived := context.WithCancelCause(ctx)
	answers := make(chan error, 3)
	ask := func(ctx context.Context) {
		_, err := p.post(ctx, &r, nil, []byte("x"))
		answers <- err
	}
	accept := func() {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			t.Fatal(err)
		}
	}
	go ask(ctx)
	accept()
	go ask(ctx) // a second request at the same time
	accept()
	go ask(derived)
	accept()
	cancelDerived(cause)
	if err := <-answers; !errors.Is(err, cause) {
		t.Errorf("derived: %v", err)
	}
	cancel(cause)
	for range 2 {
		if err := <-answers; !errors.Is(err, cause) {
			t.Errorf("cut off: %v", err)
		}
	}
	if _, err := p.post(ctx, &r, nil, nil); !errors.Is(err, cause) {
		t.Errorf("after the end: %v", err)
	}
	ctx, cancel = WithCancelConn(parent)
	stop()
	<-ctx.Done()
	if _, err := p.post(ctx, &r, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the parent's end: %v", err)
	}
	cancel(nil)
}
