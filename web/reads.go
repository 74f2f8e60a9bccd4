package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	indexHeader = "X-Hub-Index"
	// readWait is how long a read waits until this node has what it asks for.
	readWait = 5 * time.Second
)

// Reads tells how far this node is in the cluster's log. Safe for concurrent use.
type Reads interface {
	// Written is an index at or before which everything stands that was written through this node and answered.
	Written() uint64
	// AwaitIndex returns when this node has applied the entry at index. Errors are for the client.
	AwaitIndex(ctx context.Context, index uint64) error
	// Consistent returns when this node has applied all that was acknowledged anywhere before the call. Errors are for
	// the client.
	Consistent(ctx context.Context) error
}

// alone is a node that nobody can be ahead of.
type alone struct{}

func (alone) Written() uint64                          { return 0 }
func (alone) AwaitIndex(context.Context, uint64) error { return nil }
func (alone) Consistent(context.Context) error         { return nil }

// freshEnough makes a read wait for what its query asks for: min_index=N, the X-Hub-Index of an earlier answer, or
// consistent=true. The handler does not see these parameters.
func (s *Server) freshEnough(read http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw := r.URL.RawQuery
		if !strings.Contains(raw, "min_index") && !strings.Contains(raw, "consistent") {
			read(w, r)
			return
		}
		q, err := url.ParseQuery(raw)
		if err != nil {
			s.fail(w, r, hub.ParamErrorf("query", "cannot be read (%v)", err))
			return
		}
		if err := s.await(r.Context(), q); err != nil {
			s.fail(w, r, err)
			return
		}
		q.Del("min_index")
		q.Del("consistent")
		at, rest := *r.URL, *r
		at.RawQuery = q.Encode()
		rest.URL = &at
		read(w, &rest)
	}
}

func (s *Server) await(ctx context.Context, q url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	for _, param := range []string{"min_index", "consistent"} {
		if n := len(q[param]); n > 1 {
			return hub.ParamErrorf(param, "is given %d times; expected once", n)
		}
	}
	var index uint64
	if v, given := q["min_index"]; given {
		var err error
		if index, err = strconv.ParseUint(v[0], 10, 64); err != nil {
			return hub.ParamErrorf("min_index", "is %s; expected the number in %s of an earlier answer", problem.Quote(v[0]), indexHeader)
		}
	}
	if v, given := q["consistent"]; given {
		switch v[0] {
		case "true":
			if err := s.Reads.Consistent(ctx); err != nil {
				return err
			}
		case "false":
		default:
			return hub.ParamErrorf("consistent", "is %s; expected true or false", problem.Quote(v[0]))
		}
	}
	if index > 0 {
		return s.Reads.AwaitIndex(ctx, index)
	}
	return nil
}

// readsState tells whether a route shows what the log holds.
func readsState(path string) bool {
	return path != "/v1/openapi.json" && (strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/topics/"))
}

// writes tells whether a request may have changed something.
func writes(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}
