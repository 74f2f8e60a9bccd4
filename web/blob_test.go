package web_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

func largeBody(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{})
	_, _ = src.Read(b)
	return b
}

// unsized hides the length of a body, so that it is sent chunked.
type unsized struct{ io.Reader }

func TestBlobs(t *testing.T) {
	const limit = 2 << 20
	r := start(t, func(rules *hub.Policy, _ *web.Options) { rules.MaxMessageBytes = limit })
	for i, size := range []int{256<<10 - 1, 256 << 10, 256<<10 + 1, 2 * hub.MaxPartBytes, 1 << 20, limit} {
		body := largeBody(size)
		for j, in := range []io.Reader{bytes.NewReader(body), unsized{bytes.NewReader(body)}} {
			resp, err := r.client.Post("http://"+r.addr+"/topics/news", "application/x-test", in)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			id := fmt.Sprintf("1-%d", 2*i+j+1)
			if resp.StatusCode != 200 || resp.Header.Get("X-Hub-Message-Id") != id {
				t.Fatalf("%d bytes: %d %q %v", size, resp.StatusCode, text, resp.Header)
			}
			resp, err = r.client.Get("http://" + r.addr + "/topics/news")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) || resp.ContentLength != int64(size) || resp.Header.Get("Content-Type") != "application/x-test" ||
				resp.Header.Get("X-Hub-Message-Id") != id {
				t.Fatalf("%d bytes came back as %d (%v): %v", size, len(got), err, resp.Header)
			}
		}
	}
	for name, in := range map[string]io.Reader{"sized": bytes.NewReader(largeBody(limit + 1)), "unsized": unsized{bytes.NewReader(largeBody(limit + 1))}} {
		resp, err := r.client.Post("http://"+r.addr+"/topics/news", "text/plain", in)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 413 || !strings.Contains(string(text), "larger than 2097152 bytes") {
			t.Errorf("%s: %d %q, want 413", name, resp.StatusCode, text)
		}
	}
	head := uint64(0)
	r.ledger.View(func(s *hub.State) { head = s.Head(1) })
	if head != 12 {
		t.Errorf("%d messages, want 12", head)
	}
}

// Compacted JSON is in memory as a whole, but still goes into the log in parts.
func TestCompactedBlob(t *testing.T) {
	f := newFixture(t, func(rules *hub.Policy, o *web.Options) { rules.MaxMessageBytes, o.CompactJSON = 2<<20, true })
	body := "[" + strings.Repeat(" 1 ,", 200_000) + " 2 ]"
	want(t, f.send(http.MethodPost, "/topics/news", body, "Content-Type", "application/json"), 200)
	if got := want(t, f.send(http.MethodGet, "/topics/news", ""), 200); got != strings.ReplaceAll(body, " ", "") {
		t.Errorf("%d bytes came back", len(got))
	}
	f.ledger.View(func(s *hub.State) {
		if first, last := s.RetainedParts(); first != 1 || last != 2 {
			t.Errorf("parts %d to %d", first, last)
		}
	})
}

func TestTruncatedBlobs(t *testing.T) {
	r := start(t, func(rules *hub.Policy, o *web.Options) {
		rules.MaxMessageBytes, o.BodyTimeout = 2<<20, 300*time.Millisecond
	})
	r.publish(t, "news", "before")
	chunk := string(largeBody(300 << 10))
	for _, c := range []struct {
		name, request string
		closeWrite    bool
		status        int
	}{
		{"fewer bytes than announced", "POST /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n" + chunk, true, 400},
		{"no last chunk", chunked("/topics/news", "text/plain", chunk, chunk), true, 400},
		{"a bad chunk", chunked("/topics/news", "text/plain", chunk) + "zz\r\n", false, 400},
		{"nothing more comes", "POST /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n" + chunk, false, 408},
		{"no such type", "POST /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: " + strings.Repeat("x", 300) + "\r\nContent-Length: 300000\r\n\r\n" + chunk[:300000], false, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status, _, body := r.raw(t, c.request, c.closeWrite); status != c.status {
				t.Errorf("%d %q, want %d", status, body, c.status)
			}
		})
	}
	if w := r.send(http.MethodPost, "/topics/news", chunk, "Content-Encoding", "gzip"); w.Code != 415 {
		t.Errorf("an encoded body got %d, want 415", w.Code)
	}
	if got := want(t, r.send(http.MethodGet, "/topics/news", ""), 200); got != "before" {
		t.Errorf("%d bytes were published", len(got))
	}
}

func TestBlobIdempotency(t *testing.T) {
	f := newFixture(t, func(rules *hub.Policy, _ *web.Options) { rules.MaxMessageBytes = 2 << 20 })
	body := string(largeBody(700 << 10))
	for i, c := range []struct {
		body   string
		status int
	}{{body, 200}, {body, 200}, {body + "x", 422}, {"small", 422}} {
		w := f.send(http.MethodPost, "/topics/news", c.body, "Content-Type", "text/plain", "Idempotency-Key", "k")
		if w.Code != c.status || c.status == 200 && w.Header().Get("X-Hub-Message-Id") != "1-1" || i == 1 && w.Header().Get("Idempotency-Replayed") != "true" {
			t.Errorf("publish %d: %d %q %v", i, w.Code, w.Body, w.Header())
		}
	}
	if w := f.send(http.MethodPost, "/topics/other", "small", "Content-Type", "text/plain", "Idempotency-Key", "k"); w.Code != 200 {
		t.Errorf("another topic: %d", w.Code)
	}
}

// Concurrent blobs take memory for one part each, in both directions.
func TestBlobMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 200 MiB")
	}
	r := start(t, func(rules *hub.Policy, o *web.Options) { rules.MaxMessageBytes, o.BudgetBytes = 64<<20, 16<<20 })
	r.ledger.discard = true
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	req, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/topics/news", io.LimitReader(rand.NewChaCha8([32]byte{}), 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 16<<20 {
		t.Errorf("%d bytes in use after publishing 64 MiB", held)
	}
	if got := r.metric(t, "quorumhub_http_body_bytes"); got != "0" {
		t.Errorf("%s bytes of bodies are accounted for", got)
	}
}
