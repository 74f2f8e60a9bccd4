package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"quorumhub/cli"
)

type streamLine struct {
	MessageID   string `json:"message_id"`
	Topic       string `json:"topic"`
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
}

func (l *listener) message(t *testing.T) (m streamLine) {
	t.Helper()
	if err := json.Unmarshal([]byte(l.line(t)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A stream over three nodes delivers every message once and in order, while the node that serves it is killed and another one stops.
func TestListenStreamGoesOnWithAnotherNode(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.cursor_flush=100ms")
	var args []string
	for _, u := range c.urls {
		args = append(args, "--stream", u+"/topics/news")
	}
	next, sent := 0, 0
	publish := func(node int) {
		t.Helper()
		eventually(t, "a publish is accepted", func() bool {
			status, _ := c.publish(node, fmt.Sprint("message ", sent))
			return status/100 == 2
		})
		sent++
	}
	publish(0)
	l := startListen(t, append(args, "--json", "--start", "earliest", "--count", "41")...)
	read := func() {
		t.Helper()
		for next < sent {
			m := l.message(t)
			if m.MessageID != fmt.Sprint("1-", next+1) || m.Body != fmt.Sprint("message ", next) || m.ContentType != "text/plain" ||
				m.Topic != c.urls[0]+"/topics/news" {
				t.Fatalf("got %+v, want message %d", m, next)
			}
			next++
		}
	}
	for i := range 10 {
		publish(i % 3)
	}
	read()
	c.signal(0, syscall.SIGKILL) // the stream is served by the first URL
	for i := range 10 {
		publish(1 + i%2)
	}
	read()
	if !strings.Contains(l.errs.String(), "following "+c.urls[1]) {
		t.Errorf("it did not continue at node-2; it said %s", l.errs)
	}
	c.restart(0)
	for range 10 {
		publish(2)
	}
	read()
	c.signal(1, syscall.SIGTERM)
	for range 10 {
		publish(2)
	}
	read()
	if code := l.code(t); code != 0 {
		t.Errorf("listen exited with %d: %s", code, l.errs)
	}
	if !strings.Contains(l.errs.String(), "stopping") {
		t.Errorf("it did not report that node-2 stops; it said %s", l.errs)
	}
}

// signal sends a signal to node i.
func (c *devCluster) signal(i int, sig syscall.Signal) {
	if err := syscall.Kill(c.pid(i), sig); err != nil {
		c.t.Error(err)
	}
}

// pid returns the process ID of node i.
func (c *devCluster) pid(i int) int {
	raw, err := os.ReadFile(filepath.Join(c.node(i), "quorumhub.pid"))
	if err != nil {
		c.t.Error(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		c.t.Error(err)
	}
	return pid
}

func TestListenStreamAnswers(t *testing.T) {
	answers := make(chan string, 10)
	lastIDs := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "offset=2" {
			fmt.Fprint(w, "large body")
			return
		}
		select {
		case lastIDs <- r.Header.Get("Last-Event-ID"):
		default:
		}
		select {
		case a := <-answers:
			if a == "404" {
				http.Error(w, "topic: it is not known", http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, a)
		default:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	answers <- "retry: 1\nid: 1-0\n\n"
	answers <- "id: 1-1\ndata: {\"id\":\"1-1\",\"content_type\":\"text/plain\",\ndata: \"body\":\"one\"}\n\nid: 1-2\ndata: {\"id\":"
	answers <- ": heartbeat 15s\nid: 1-2\ndata: {\"id\":\"1-2\",\"body_url\":\"?offset=2\"}\n\nevent: later\ndata: x\n\n" +
		"event: gap\nid: 1-7\ndata: {\"reason\":\"retention\",\"first_missing\":3,\"last_missing\":7,\"next\":8}\n\nevent: end\ndata: {\"reason\":\"stopping\"}\n\n"
	answers <- "data: " + strings.Repeat("x", 9<<20) + "\n\n" // never so long
	answers <- "id: 1-8\ndata: {\"id\":\"1-8\",\"body_base64\":\"/w==\"}\n\n"
	answers <- "404"
	l := startListen(t, "--stream", srv.URL+"/topics/news", "--json")
	for _, want := range []string{"one", "large body", ""} {
		if m := l.message(t); m.Body != want {
			t.Errorf("got %+v, want %q", m, want)
		}
	}
	if code := l.code(t); code != 4 {
		t.Errorf("exited with %d, want 4", code)
	}
	for _, want := range []string{"", "1-0", "1-1", "1-7", "1-7", "1-8"} {
		if got := <-lastIDs; got != want {
			t.Errorf("reconnected with Last-Event-ID %q, want %q", got, want)
		}
	}
	for _, want := range []string{"gap: messages 3 to 7 are gone", "the hub ended the stream: stopping", "longer than the limit", "404 topic: it is not known"} {
		if !strings.Contains(l.errs.String(), want) {
			t.Errorf("it does not print %q: %s", want, l.errs)
		}
	}
	l = startListen(t, "--stream", srv.URL+"/topics/news", "--json", "--timeout", "1s")
	if code := l.code(t); code != 5 {
		t.Errorf("exited with %d, want 5", code)
	}
	for _, args := range [][]string{{"--stream", "news"}, {"--start", "latest"}, {"--stream", srv.URL + "/topics/x", "--topic", "x"}} {
		if code := startListen(t, args...).code(t); code != 2 {
			t.Errorf("listen %v exited with %d, want 2", args, code)
		}
	}
}

// A batch can be published through any node. Its messages are consecutive on all nodes, even with other publishers.
func TestPublishBatchOnACluster(t *testing.T) {
	c := startDevCluster(t, 3)
	dir := t.TempDir()
	file := filepath.Join(dir, "batch.ndjson")
	if err := os.WriteFile(file, []byte("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := c.publish(0, "first"); status/100 != 2 {
		t.Fatal("publishing to the topic failed")
	}
	run := func(node int, args ...string) (int, string, string) {
		var out, errs strings.Builder
		code := cli.Run(t.Context(), append([]string{"publish", "news", "--hub", c.urls[node] + "/hub", "--batch", file}, args...),
			cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		return code, out.String(), errs.String()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 30 {
			c.publish(i%3, "noise")
		}
	}()
	for i := range 6 {
		code, out, errs := run(i%3, "--json", "--idempotency-key", fmt.Sprint("k", i/2))
		var a struct {
			Duplicate bool
			Messages  []struct {
				ID     string
				Offset uint64
			}
		}
		if err := json.Unmarshal([]byte(out), &a); code != 0 || err != nil || len(a.Messages) != 3 || a.Duplicate != (i%2 == 1) {
			t.Fatalf("%d %q %q (%v)", code, out, errs, err)
		}
		for n, m := range a.Messages {
			for node := range c.urls {
				eventually(t, "the node has the message", func() bool {
					return c.content(node, fmt.Sprintf("?offset=%d", m.Offset)) == fmt.Sprintf("{\"n\":%d}", n+1)
				})
			}
		}
	}
	<-done
	if code, out, _ := run(1); code != 0 || !strings.Contains(out, "published 3 messages") {
		t.Errorf("%d %q", code, out)
	}
	if err := os.WriteFile(file, []byte("{\"n\":1}\nnope\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(2); code != 4 || !strings.Contains(errs, "line 2 is not JSON") {
		t.Errorf("a bad line: %d %q", code, errs)
	}
}

// content returns the content of the topic on node i.
func (c *devCluster) content(i int, query string) string {
	resp, err := http.Get(c.urls[i] + "/topics/news" + query)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// A topic's limits can be set through any node, and are shown by all nodes and applied.
func TestTopicsSetOnACluster(t *testing.T) {
	c := startDevCluster(t, 3, "retention.max_age=4s") // checked every second; only closed segments are dropped
	for i := range 5 {
		if status, _ := c.publish(i%3, "message"); status/100 != 2 {
			t.Fatal("publishing failed")
		}
	}
	run := func(node int, args ...string) (int, string) {
		var out strings.Builder
		code := cli.Run(t.Context(), append(append([]string{"topics"}, args...), "--hub", c.urls[node]+"/hub"),
			cli.Streams{In: strings.NewReader(""), Out: &out, Err: &out})
		return code, out.String()
	}
	if code, out := run(1, "set", "news", "--max-bytes", "1B", "--max-age", "7d"); code != 0 || out != "own limits of news: age 7d, size 1 byte\n" {
		t.Errorf("%d %q", code, out)
	}
	for node := range c.urls {
		eventually(t, "the limits are applied", func() bool {
			code, out := run(node)
			fields := strings.Fields(out[strings.Index(out, "\n")+1:])
			return code == 0 && strings.Join(fields, " ") == "news 1 5 5 0 age 7d, size 1 byte active"
		})
	}
	if code, out := run(2, "set", "news"); code != 0 || !strings.Contains(out, "none, the hub's limits apply") {
		t.Errorf("%d %q", code, out)
	}
	for _, bad := range [][]string{{"set", "none", "--max-age", "1h"}, {"set", "news", "--max-age", "soon"}} {
		if code, out := run(0, bad...); code != 4 {
			t.Errorf("%v: %d %q, want 4", bad, code, out)
		}
	}
	if code, out := run(0, "set", "news", "--max-bytes", "much"); code != 2 {
		t.Errorf("%d %q, want 2", code, out)
	}
}
