package delivery_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// A large body is read once to sign it and once to send it, and never held in memory.
func TestPushBlob(t *testing.T) {
	s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	p := pusher(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	signer, err := delivery.NewSigner(delivery.SHA256, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sg := range []*delivery.Signer{nil, signer} {
		opened := 0
		c := delivery.Content{ContentType: "text/plain", MessageID: "1-1", Link: "<l>", Blob: &delivery.Blob{Size: int64(len(body)),
			Open: func() io.Reader { opened++; return iotest.HalfReader(bytes.NewReader(body)) }}}
		if res := p.Push(t.Context(), endpoint(t, p, s.URL+"/cb", sg), c); res.Outcome != delivery.PushDelivered || res.Status != 204 {
			t.Fatalf("result %+v", res)
		}
		reqs := s.All()
		got := reqs[len(reqs)-1]
		if !bytes.Equal(got.Body, body) || got.Header.Get("Content-Length") != fmt.Sprint(len(body)) || got.Header.Get("X-Hub-Message-Id") != "1-1" {
			t.Errorf("%d bytes arrived with %v", len(got.Body), got.Header)
		}
		want, times := "", 1
		if sg != nil {
			want, _ = delivery.Sign(delivery.SHA256, []byte("secret"), body)
			times = 2
		}
		if got.Header.Get("X-Hub-Signature") != want || opened != times {
			t.Errorf("signature %q, want %q; the body was read %d times, want %d", got.Header.Get("X-Hub-Signature"), want, opened, times)
		}
	}
}

// A body that cannot be read is not the endpoint's fault, and is reported differently.
func TestPushUnreadableBlob(t *testing.T) {
	s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	p := pusher(t)
	signer, err := delivery.NewSigner(delivery.SHA256, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sg := range []*delivery.Signer{nil, signer} {
		for _, c := range []struct {
			err     error
			outcome delivery.PushOutcome
			reason  egress.Reason
		}{
			{fmt.Errorf("read part 7: %w", hub.ErrTrimmed), delivery.PushCancelled, egress.ReasonCancelled},
			{fmt.Errorf("read part 7: %w", hub.ErrCorrupt), delivery.PushDown, egress.ReasonUnreadable},
		} {
			content := delivery.Content{Blob: &delivery.Blob{Size: 1 << 20, Open: func() io.Reader {
				return io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), iotest.ErrReader(c.err))
			}}}
			if res := p.Push(t.Context(), endpoint(t, p, s.URL+"/cb", sg), content); res.Outcome != c.outcome || res.Reason != c.reason {
				t.Errorf("%v, signed %v: %+v", c.err, sg != nil, res)
			}
		}
	}
	for _, r := range s.All() {
		if len(r.Body) == 1<<20 {
			t.Error("a whole body arrived")
		}
	}
}
