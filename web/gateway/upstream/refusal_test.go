package upstream_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"quorumhub/web/gateway/upstream"
	"quorumhub/web/problem"
)

// TestCallsInFlightAreBounded: beyond, the caller is told when to come back, and the service is not called.
func TestCallsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		s.set("a.example", func(r *http.Request) (*http.Response, error) {
			connected(r)
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("body"))}, nil
		})
		p := newPool(t, s, upstream.Config{URLs: []string{"http://a.example"}, MaxInFlight: 2})
		var open []*http.Response
		for range 2 {
			resp, err := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/"})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, resp)
		}
		_, err := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/"})
		var e *upstream.Error
		if !errors.As(err, &e) || e.Class != upstream.ClassTooMany || e.RetryAfter == 0 {
			t.Fatalf("third call: %v, want too_many", err)
		}
		if d := e.Problem(); d.Status != 429 || d.Code != "limited" {
			t.Errorf("problem %+v", d)
		}
		_, _ = io.Copy(io.Discard, open[0].Body) // to its end: that is enough
		expect(t, "after one has ended", call(t, p, "GET"), "200")
		_ = open[1].Body.Close()
		_ = open[1].Body.Close()
		if n := p.Status().InFlight; n != 0 {
			t.Errorf("%d in flight at the end", n)
		}
	})
}

// TestErrorsTellTheClassOnly: neither the text nor the problem shows the address or what went wrong there; the log does.
func TestErrorsTellTheClassOnly(t *testing.T) {
	s := &services{}
	secret := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 9100}, Err: syscall.ECONNREFUSED}
	for want, err := range map[string]error{
		"dial 502":     secret,
		"dns 502":      &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "10.1.2.3.internal", IsNotFound: true}},
		"tls 502":      errors.New("tls: failed to verify certificate: x509: certificate is valid for 10.1.2.3"),
		"reset 502":    fmt.Errorf("10.1.2.3: %w", io.EOF),
		"protocol 502": errors.New("malformed HTTP response \"10.1.2.3\""),
		"denied 502":   forbidden{},
		"timeout 504":  fmt.Errorf("10.1.2.3: %w", timeoutError{}),
	} {
		s.set("a.example", func(r *http.Request) (*http.Response, error) { return nil, err })
		p := newPool(t, s, upstream.Config{URLs: []string{"http://a.example"}})
		_, got := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/"})
		var e *upstream.Error
		if !errors.As(got, &e) {
			t.Fatalf("%s: got %v", want, got)
		}
		d := e.Problem()
		expect(t, "class and status", fmt.Sprint(e.Class, " ", d.Status), want)
		if text := got.Error() + d.Error(); strings.Contains(text, "10.1.2.3") || strings.Contains(text, "a.example") {
			t.Errorf("%s: the client learns %q", want, text)
		}
		if line := e.LogValue().String(); !strings.Contains(line, "10.1.2.3") || !strings.Contains(line, "http://a.example") {
			t.Errorf("%s: the log gets %q, want the address and the cause", want, line)
		}
		if errors.Is(got, io.EOF) {
			t.Errorf("%s: is io.EOF, which readers take for the end", want)
		}
	}
}

type forbidden struct{}

type timeoutError struct{}

// TestRequestsThatAnotherProgramWouldReadDifferently are not sent.
func TestRequestsThatAnotherProgramWouldReadDifferently(t *testing.T) {
	s := &services{}
	p := newPool(t, s, upstream.Config{})
	for _, target := range []string{"", "v1", "*", "//evil.example/x", "/a b", "/a\r\nX: y", "/a\x00", "/a\x7f", "/a#b", "/a\\b", "/a/../b", "/a/..",
		"/./a", "/a/%2e%2e/b", "/a/%2E./b", "/a/..;x=1/b", "/a%0d%0ab", "/a%00", "/a%7F", "/a%zz", "/a%2", "/a?x=1 HTTP/1.1", "/a?x\n", "http://evil.example/"} {
		_, err := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: target})
		var d *problem.Details
		if !errors.As(err, &d) || d.Status != 400 {
			t.Errorf("%q: got %v, want a problem 400", target, err)
		}
	}
	if _, err := p.Call(t.Context(), &upstream.Request{Method: "CONNECT", Target: "/"}); err == nil {
		t.Error("CONNECT was sent")
	}
	if got := s.called(); len(got) != 0 {
		t.Errorf("called %v", got)
	}
	for _, target := range []string{"/", "/a..b", "/...", "/a%2Fb", "/a;v=1/b", "/é", "/a?q=../..&r=a\\b", "/a/?", "/.well-known/x", "/a%25zz"} {
		expect(t, target, outcome(p.Call(t.Context(), &upstream.Request{Method: "GET", Target: target})), "200")
	}
}
