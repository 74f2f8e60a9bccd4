package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// After a request that says in two ways where its body ends, nothing more on the connection is taken for a request.
func TestConnectionsEndAfterDoubleFraming(t *testing.T) {
	r := start(t)
	const chunks = "4\r\nonce\r\n0\r\n\r\n"
	const pad = "X-Pad: "
	for _, tc := range []struct {
		name, header, body string
		close              bool
	}{
		{"length, then chunks", "HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked", chunks, true},
		{"chunks, then length", "HTTP/1.1\r\nHost: 127.0.0.1\r\ntransfer-encoding: Chunked\r\ncontent-length: 14", chunks, true},
		{"blanks around the length", "HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length:\t14 ", chunks, true},
		{"a length far behind", "HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n" + pad + strings.Repeat("x", 5000) + "\r\nContent-Length: 14", chunks, true},
		{"chunks in HTTP/1.0", "HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", "once", true},
		{"chunks", "HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked", chunks, false},
		{"length", "HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4", "once", false},
		{"length in HTTP/1.0", "HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\nContent-Length: 4", "once", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := r.dial(t)
			request := "POST /topics/a " + tc.header + "\r\n\r\n" + tc.body
			in := bufio.NewReader(c)
			for n := range 3 {
				if _, err := io.WriteString(c, request); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
					t.Fatalf("request %d: %d %q %v", n, resp.StatusCode, body, err)
				}
				if resp.Close != tc.close {
					t.Errorf("request %d: the connection closes: %v, want %v", n, resp.Close, tc.close)
				}
				if tc.close {
					if more, err := io.ReadAll(in); err != nil || len(more) > 0 {
						t.Errorf("%q follows the answer (%v)", more, err)
					}
					return
				}
			}
		})
	}
}

// The same in the second of two requests that are sent without waiting for the first answer.
func TestDoubleFramingInAPipeline(t *testing.T) {
	const plain = "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx"
	const chunks = "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
	for name, parts := range map[string][]string{
		"at once": {plain + "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n" + chunks + plain},
		"in parts, the second like a request": {plain + "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nX-Pad: ",
			"POST /topics/a HTTP/1.1\r\n" + chunks + plain},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			c := r.dial(t)
			in := bufio.NewReader(c)
			var all strings.Builder
			for _, part := range parts {
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&all, resp.Status)
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			rest, _ := io.ReadAll(in) // may end in a reset
			all.Write(rest)
			if n := strings.Count(all.String(), "200 OK"); n != 2 {
				t.Errorf("%d answers in %q, want 2", n, all.String())
			}
		})
	}
}
