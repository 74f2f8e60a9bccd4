package echo_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/cli/echo"
)

func answer(t *testing.T, o echo.Options, method, target, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	echo.Handler(o).ServeHTTP(w, r)
	return w
}

func TestEchoShowsWhatItGot(t *testing.T) {
	var told *echo.Received
	large := strings.Repeat("x", 100_000)
	w := answer(t, echo.Options{Got: func(r *echo.Received) { told = r }}, "POST", "/a%20b?c=d&c=e", "text/plain", large)
	var got echo.Received
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(large))
	if got.Method != "POST" || got.URI != "/a%20b?c=d&c=e" || got.Headers.Get("Content-Type") != "text/plain" || got.Bytes != 100_000 || got.SHA256 != hex.EncodeToString(sum[:]) || len(got.Body) != 64<<10 {
		t.Errorf("got %s %s %v, %d bytes, %s, %d shown", got.Method, got.URI, got.Headers, got.Bytes, got.SHA256, len(got.Body))
	}
	if told == nil || told.SHA256 != got.SHA256 {
		t.Errorf("told %+v", told)
	}
	if err := json.Unmarshal(answer(t, echo.Options{}, "POST", "/", "", "\xff\x00").Body.Bytes(), &got); err != nil || !got.Base64 || got.Body != "/wA=" {
		t.Errorf("bytes that are no text: got %+v, %v", got, err)
	}
}

// TestEmployeeAnswersInCDATA: the answer is XML whose only text is XML again, whatever the ID.
func TestEmployeeAnswersInCDATA(t *testing.T) {
	for _, tt := range []struct{ method, target, body, id string }{
		{"GET", "/v1/address?ID=121", "", "121"},
		{"POST", "/v2/address", `{"ID": 121}`, "121"},
		{"POST", "/v2/address", `<r><ID>121</ID></r>`, "121"},
		{"POST", "/v2/address", `ID=121`, "121"},
		{"GET", "/v2/address?ID=%5D%5D%3E%3Cx/%3E", "", "]]><x/>"},
	} {
		w := answer(t, echo.Options{As: "employee"}, tt.method, tt.target, "", tt.body)
		var outer struct {
			XMLName xml.Name `xml:"Response"`
			Text    string   `xml:",chardata"`
			Inner   []any    `xml:",any"`
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &outer); err != nil || len(outer.Inner) > 0 {
			t.Fatalf("%s: %v in %s", tt.target, err, w.Body)
		}
		var address struct {
			XMLName xml.Name `xml:"GetAddress"`
			ID      string
			Line    []string
		}
		if err := xml.Unmarshal([]byte(outer.Text), &address); err != nil || address.ID != tt.id || len(address.Line) == 0 || w.Header().Get("Content-Type") != "application/xml" {
			t.Errorf("%s: got %+v, %v of %s", tt.target, address, err, w.Body)
		}
	}
}

func TestEchoAnswersAsTold(t *testing.T) {
	w := answer(t, echo.Options{Body: []byte("<a/>"), ContentType: "text/xml", Status: 503}, "GET", "/", "", "")
	if w.Code != 503 || w.Body.String() != "<a/>" || w.Header().Get("Content-Type") != "text/xml" {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		done <- echo.Serve(ctx, l, echo.Handler(echo.Options{Delay: time.Hour, Got: func(*echo.Received) { close(started) }}))
	}()
	go func() {
		<-started
		cancel()
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(r); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		t.Errorf("got %s", resp.Status)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
