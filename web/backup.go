package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"quorumhub/web/problem"
)

// Backup is a consistent copy of a node's files that is about to be written. Whoever has one must close it: pages are kept for it.
type Backup interface {
	io.WriterTo
	io.Closer
}

// Backups takes backups of the node.
type Backups interface {
	// Begin begins a backup of the given size in bytes. ctx ends it early.
	Begin(ctx context.Context) (b Backup, size int64, name string, err error)
}

const (
	// backupRate is what a reader of a backup must take at least, in bytes a second, on average and beyond a grace.
	backupRate  = 1 << 20
	backupGrace = time.Minute
)

// getBackup streams a backup of this node. Old pages of the files cannot be used again while it is read, so that a
// reader who stalls, or who is slower than backupRate, is cut off.
func (s *Server) getBackup(w http.ResponseWriter, r *http.Request) {
	if s.Backups == nil {
		s.fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "path", Detail: "this server has no files to back up"})
		return
	}
	if !s.backingUp.CompareAndSwap(false, true) {
		s.fail(w, r, &problem.Details{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "another backup is being read from this node", RetryAfter: 5 * time.Second})
		return
	}
	defer s.backingUp.Store(false)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	rc := http.NewResponseController(w)
	b, size, name, err := s.Backups.Begin(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer b.Close()
	limit := backupGrace + time.Duration(size/backupRate)*time.Second
	end := time.Now().Add(limit)
	stop := time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("it took longer than %v", limit))
	})
	defer stop.Stop()
	h := w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Backup-Time-Limit", strconv.Itoa(int(limit/time.Second)))
	n, err := b.WriteTo(&pacedWriter{w: w, rc: rc, stall: s.BackupStall, end: end})
	if err != nil {
		s.Log.Warn("a backup was not read to its end", "error", errors.Join(err, context.Cause(ctx)), "bytes", n, "of", size, "remote", r.RemoteAddr)
		panic(http.ErrAbortHandler) // the answer has begun; ending the connection is the only way to show that it is not whole
	}
}

// pacedWriter lets every write take so long and not longer.
type pacedWriter struct {
	w     io.Writer
	rc    *http.ResponseController
	stall time.Duration
	end   time.Time
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	deadline := time.Now().Add(p.stall)
	if p.end.Before(deadline) {
		deadline = p.end
	}
	if err := p.rc.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.w.Write(b)
	if err != nil {
		err = fmt.Errorf("the reader takes too little, or has gone: %w", err)
	}
	return n, err
}
