package upstream_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"quorumhub/web/gateway/upstream"
)

// A handler that passes requests on to a service.
func ExamplePool_Call() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "the address of ", r.URL.Query().Get("ID"))
	}))
	defer service.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	pool, err := upstream.New(upstream.Config{Name: "hr", URLs: []string{service.URL}, Retry: 2}, transport, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	handler := func(w http.ResponseWriter, r *http.Request) {
		upstream.CleanRequest(r.Header)
		resp, err := pool.Call(r.Context(), &upstream.Request{Method: r.Method, Target: "/v2/address?" + r.URL.RawQuery, Header: r.Header})
		var failed *upstream.Error
		switch {
		case errors.As(err, &failed):
			failed.Problem().Write(w, r, "c0ffee")
		case err != nil:
			w.WriteHeader(http.StatusBadRequest)
		default:
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			if _, err := io.Copy(w, resp.Body); err != nil {
				panic(http.ErrAbortHandler) // nothing incomplete may look complete
			}
		}
	}
	for range 2 {
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest("GET", "/gateway/Employee/requestAddress?ID=121", nil))
		fmt.Println(w.Code, w.Body)
		service.Close()
	}
	// Output:
	// 200 the address of 121
	// 502 the service behind this route did not give a usable answer (dial)
}
