package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"quorumhub/cli"
)

// request is a request to a scripted hub.
type request struct {
	Method, Path string
	Query        url.Values
	Form         url.Values
	Header       http.Header
	Body         string
}

// scriptedHub is an HTTP server that records its requests and responds as the test says.
type scriptedHub struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []request
	answer func(http.ResponseWriter, request)
}

func newScriptedHub(t *testing.T, answer func(http.ResponseWriter, request)) *scriptedHub {
	t.Helper()
	h := &scriptedHub{answer: answer}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req := request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.Query(), Header: r.Header, Body: string(body)}
		if r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
			req.Form, _ = url.ParseQuery(req.Body)
		}
		h.mu.Lock()
		h.asked = append(h.asked, req)
		h.mu.Unlock()
		h.answer(w, req)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *scriptedHub) requests() []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]request(nil), h.asked...)
}

// result is the outcome of a command.
type result struct {
	code     int
	out, err string
}

func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	return result{code, out.String(), errs.String()}
}

// ask calls a callback as a hub does.
func ask(ctx context.Context, callback string, params url.Values) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, callback+"?"+params.Encode(), nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// deliver sends content to a callback as a hub does.
func deliver(ctx context.Context, callback, body string, header map[string]string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, callback, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
}

func accepted(w http.ResponseWriter, _ request) {
	w.Header().Set("X-Hub-Message-Id", "7-42")
	w.WriteHeader(http.StatusAccepted)
}

func answering(status int, header, text string) func(http.ResponseWriter, request) {
	return func(w http.ResponseWriter, _ request) {
		if header != "" {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
}
