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

const (
	// backupRate is the minimum average rate of a client that reads a backup, in bytes per second, after backupGrace.
	backupRate  = 1 << 20
	backupGrace = time.Minute
)

// getBackup streams a backup of this node. The files cannot reuse old pages meanwhile, so a client that stalls or is slower than
// backupRate is cut off.
func (s *Server) getBackup(w http.ResponseWriter, r *http.Request) {
	if s.Backups == nil {
		s.fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "path", Detail: "this server has no files to back up"})
		return
	}
	if !s.backingUp.CompareAndSwap(false, true) {
		s.fail(w, r, &problem.Details{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "another backup of this node is in progress", RetryAfter: 5 * time.Second})
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
		cancel(fmt.Errorf("took longer than %v", limit))
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
		s.Log.Warn("backup aborted", "error", errors.Join(err, context.Cause(ctx)), "bytes", n, "of_bytes", size, "remote", r.RemoteAddr)
		panic(http.ErrAbortHandler) // the response has begun; only closing the connection shows that it is incomplete
	}
}

// pacedWriter bounds the time of each write and of all together.
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
		err = fmt.Errorf("the client is too slow or gone: %w", err)
	}
	return n, err
}
