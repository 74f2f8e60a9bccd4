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
	// readWait bounds how long a read waits for this node to catch up.
	readWait = 5 * time.Second
)

// Reads reports and awaits this node's progress in the cluster's log. Safe for concurrent use.
type Reads interface {
	// Written returns an index at or after every acknowledged write through this node.
	Written() uint64
	// AwaitIndex returns when this node has applied the entry at index. Errors are for the client.
	AwaitIndex(ctx context.Context, index uint64) error
	// Consistent returns when this node has applied every write acknowledged by any node before the call. Errors are for the
	// client.
	Consistent(ctx context.Context) error
}

// alone implements Reads for a node that no other can be ahead of.
type alone struct{}

func (alone) Written() uint64                          { return 0 }
func (alone) AwaitIndex(context.Context, uint64) error { return nil }
func (alone) Consistent(context.Context) error         { return nil }

// freshEnough makes a read wait until this node has caught up as the query asks: min_index=N, the X-Hub-Index of an earlier
// response, or consistent=true. The handler does not see these parameters.
func (s *Server) freshEnough(read http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw := r.URL.RawQuery
		if !strings.Contains(raw, "min_index") && !strings.Contains(raw, "consistent") {
			read(w, r)
			return
		}
		q, err := parseURLQuery(raw)
		if err != nil {
			s.fail(w, r, err)
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
			return hub.ParamErrorf("min_index", "is %s; expected the %s of an earlier response", problem.Quote(v[0]), indexHeader)
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

// readsState reports whether a route shows replicated state.
func readsState(path string) bool {
	return path != "/v1/openapi.json" && (strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/topics/"))
}

// writes reports whether a request with this method may change something.
func writes(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}
