package conformance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// badURLs are not absolute http(s) URLs that a hub may call or store.
var badURLs = map[string]string{
	"relative":               "/cb",
	"no scheme":              "127.0.0.1/cb",
	"scheme-relative":        "//127.0.0.1/cb",
	"ftp":                    "ftp://127.0.0.1/cb",
	"file":                   "file:///etc/passwd",
	"javascript":             "javascript:alert(1)",
	"gopher":                 "gopher://127.0.0.1:70/",
	"no host":                "http:///cb",
	"opaque":                 "http:127.0.0.1/cb",
	"only a scheme":          "http://",
	"userinfo":               "http://user:pass@127.0.0.1/cb",
	"user only":              "http://user@127.0.0.1/cb",
	"bad escape":             "http://127.0.0.1/%zz",
	"port out of range":      "http://127.0.0.1:99999/cb",
	"port no number":         "http://127.0.0.1:http/cb",
	"blank inside":           "http://127.0.0.1/a b",
	"blank in host":          "http://127.0.0 .1/",
	"line break":             "http://127.0.0.1/cb\r\nX-Evil: 1",
	"NUL":                    "http://127.0.0.1/cb\x00",
	"tab":                    "http://127.0.0.1/\tcb",
	"not UTF-8":              "http://127.0.0.1/\xff\xfe",
	"over-long":              "http://127.0.0.1/" + strings.Repeat("a", 5000),
	"IPv6 without a bracket": "http://[::1/cb",
	"IPv6 with a zone":       "http://[fe80::1%25eth0]/cb",
	"just words":             "not a url",
	"a quote":                "http://127.0.0.1/\"><script>",
}

func TestBadInputURLs(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for name, bad := range badURLs {
		for param, form := range map[string]string{
			"hub.callback": hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", bad),
			"hub.topic":    hubtest.Form("hub.mode", "subscribe", "hub.topic", bad, "hub.callback", "http://127.0.0.1:1025/cb"),
			"hub.url":      hubtest.Form("hub.mode", "publish", "hub.url", bad),
			"hub.url[]":    hubtest.Form("hub.mode", "publish", "hub.url", topic, "hub.url[]", bad),
		} {
			t.Run(param+" "+name, func(t *testing.T) { wantRefusal(t, n.PostForm(t, form), param) })
		}
		t.Run("unsubscribe "+name, func(t *testing.T) {
			wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "unsubscribe", "hub.topic", topic, "hub.callback", bad)), "hub.callback")
		})
		t.Run("register "+name, func(t *testing.T) {
			wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "register", "hub.topic", bad)), "hub.topic")
		})
		t.Run("fat publish "+name, func(t *testing.T) {
			wantRefusal(t, n.Do(t, "POST", hubtest.PublishTarget(bad), hubtest.Headers("Content-Type", "text/plain"), []byte("x")), "hub.topic")
		})
	}
}

// A ping refused for one of its topics triggers no fetch at all.
func TestBadInputOneBadTopicRefusesTheWholePing(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	topic := origin.Put("/feed", hubtest.Page{Body: []byte("1")})
	s, _ := subscribed(t, n, topic)
	wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "publish", "hub.url", topic, "hub.url", "ftp://x/")), "hub.url")
	quietly(t, "fetches by a refused ping", func() int { return len(origin.Requests()) })
	n.Ping(t, topic)
	s.WaitBody(t, "1")
	if got := len(origin.Requests()); got != 1 {
		t.Errorf("got %d fetches, want 1", got)
	}
}

func TestBadInputModes(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for name, form := range map[string]string{
		"none":            hubtest.Form("hub.topic", topic),
		"empty":           hubtest.Form("hub.mode", "", "hub.topic", topic),
		"unknown":         hubtest.Form("hub.mode", "frobnicate", "hub.topic", topic),
		"upper case":      hubtest.Form("hub.mode", "PUBLISH", "hub.url", topic),
		"an empty body":   "",
		"no parameters":   "&&&",
		"control signs":   hubtest.Form("hub.mode", "a\r\nb\x00\x1b[31m", "hub.topic", topic),
		"a very long one": hubtest.Form("hub.mode", strings.Repeat("m", 50_000), "hub.topic", topic),
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, n.PostForm(t, form), "hub.mode") })
	}
	t.Run("unknown in the query", func(t *testing.T) {
		r := n.Do(t, "POST", "/hub?hub.mode=frobnicate&"+hubtest.Form("hub.topic", topic), hubtest.Headers("Content-Type", "text/plain"), []byte("x"))
		wantRefusal(t, r, "hub.mode")
	})
}

func TestBadInputPublishWithoutATopic(t *testing.T) {
	n := shared(t)
	wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "publish")), "hub.url", "hub.topic")
	wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "publish", "hub.url", "")), "hub.url")
	wantRefusal(t, n.Do(t, "POST", "/hub?hub.mode=publish", hubtest.Headers("Content-Type", "text/plain"), []byte("x")), "hub.topic")
	wantRefusal(t, n.Do(t, "POST", "/hub?hub.mode=publish&hub.topic=", hubtest.Headers("Content-Type", "text/plain"), []byte("x")), "hub.topic")
	wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "register")), "hub.topic")
	wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "deregister", "hub.topic", "")), "hub.topic")
}

func TestBadInputMalformedForms(t *testing.T) {
	n := shared(t)
	for name, form := range map[string]string{
		"bad escape in a value": "hub.mode=subscribe&hub.topic=%zz&hub.callback=http://127.0.0.1:1025/",
		"bad escape in a name":  "hub.mode=subscribe&%g0=1",
		"cut escape":            "hub.mode=subscribe&hub.topic=http://x/%4",
		"semicolons":            "hub.mode=subscribe;hub.topic=http://127.0.0.1:1025/;hub.callback=http://127.0.0.1:1025/",
		"binary":                "\x00\x01\x02\xff\xfe",
		"JSON in a form":        `{"hub.mode":"subscribe"}`,
		"multipart in a form":   "--x\r\nContent-Disposition: form-data; name=\"hub.mode\"\r\n\r\nsubscribe\r\n--x--\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := n.PostForm(t, form)
			if r.Status < 400 || r.Status > 499 {
				t.Errorf("got %v, want 4xx", r)
			}
			wantPlainLine(t, r)
		})
	}
	t.Run("bad escape in the query", func(t *testing.T) {
		r := n.Do(t, "POST", "/hub?hub.mode=publish&hub.topic=http%3A%2F%2Fx%2", hubtest.Headers("Content-Type", "text/plain"), []byte("x"))
		if r.Status < 400 || r.Status > 499 {
			t.Errorf("got %v, want 4xx", r)
		}
	})
	t.Run("many parameters", func(t *testing.T) {
		var b strings.Builder
		for i := range 50_000 {
			fmt.Fprintf(&b, "p%d=%d&", i, i)
		}
		if r := n.PostForm(t, b.String()); r.Status < 400 || r.Status > 499 || r.Took > 5*time.Second {
			t.Errorf("got %v after %v, want 4xx soon", r, r.Took)
		}
	})
}

// An error may quote a bad value, but only in part, and never so that it becomes more than text.
func TestBadInputAnswersAreHarmless(t *testing.T) {
	n := shared(t)
	r := n.Request(t, "subscribe", newTopic(t, n), "ftp://x/<script>alert(1)</script>\r\nSet-Cookie: a=b")
	wantRefusal(t, r, "hub.callback")
	if r.Header.Get("Set-Cookie") != "" {
		t.Error("a header was injected")
	}
	if got := r.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Logf("X-Content-Type-Options is %q", got)
	}
}

func TestBadInputSecretsAndLeases(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	const callback = "http://127.0.0.1:1025/cb"
	wantRefusal(t, n.Request(t, "subscribe", topic, callback, "hub.secret", strings.Repeat("x", 200)), "hub.secret")
	wantRefusal(t, n.Request(t, "subscribe", topic, callback, "hub.lease_seconds", "-1"), "hub.lease_seconds")
	wantRefusal(t, n.Request(t, "subscribe", topic, callback, "hub.lease_seconds", strings.Repeat("1x", 100)), "hub.lease_seconds")
}

func TestBadInputMethods(t *testing.T) {
	n := shared(t)
	for _, method := range []string{"PUT", "DELETE", "PATCH"} {
		r := n.Do(t, method, "/hub", hubtest.Headers("Content-Type", hubtest.FormType), []byte("hub.mode=publish"))
		if r.Status != http.StatusMethodNotAllowed && r.Status != http.StatusNotFound {
			t.Errorf("%s /hub: got %v, want 405", method, r)
		}
	}
	topic := newTopic(t, n)
	for _, method := range []string{"PUT", "DELETE", "PATCH"} {
		if r := n.Do(t, method, topic, nil, []byte("x")); r.Status < 400 || r.Status > 499 {
			t.Errorf("%s of a topic: got %v, want 4xx", method, r)
		}
	}
}

// Requests that are not HTTP, or that break off, do not affect others.
func TestBadInputBelowHTTP(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	for name, raw := range map[string]string{
		"noise":             "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"half a header":     "POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-",
		"half a body":       "POST /hub?hub.mode=publish&hub.topic=" + strings.ReplaceAll(topic, ":", "%3A") + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf",
		"two lengths":       "POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a negative length": "POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
		"a bad chunk":       "POST /hub?hub.mode=publish&hub.topic=" + strings.ReplaceAll(topic, ":", "%3A") + " HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
		"a huge header":     "POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", n.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, raw) // the hub may close the connection before it has read everything
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return // closing without a response is fine
			}
			defer resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("got %s", resp.Status)
			}
		})
	}
	n.Publish(t, topic, "text/plain", []byte("whole"))
	s.WaitBody(t, "whole")
	if got := s.CountDeliveries(); got != 1 {
		t.Errorf("incomplete requests were delivered: %v", s.Deliveries())
	}
}
