package web

import (
	"errors"
	"io"
	"net/http"
	"time"

	"quorumhub/hub"
)

const (
	// blobCopyBytes is the memory of an upload besides what was read: the encoded copy on the way to the log.
	blobCopyBytes = hub.MaxInlineBytes + 1
	// blobUploadBytes is the memory of an upload.
	blobUploadBytes = 2 * blobCopyBytes
	// blobWriteBytes is the memory of a download, and what a client must take within downloadTime.
	blobWriteBytes = 32 << 10
	downloadTime   = 30 * time.Second
)

// mayBeBlob reports whether the body may be too large for one log entry.
func (s *Server) mayBeBlob(r *http.Request) bool {
	limit := s.Service.Policy().MaxMessageBytes
	return limit > hub.MaxInlineBytes && (r.ContentLength > hub.MaxInlineBytes && r.ContentLength <= limit || r.ContentLength < 0)
}

// publishStream publishes a body that may be a blob. It writes the body to the log in parts as they arrive, so that its memory
// does not depend on the size. The client has Options.BodyTimeout for each part.
func (s *Server) publishStream(w http.ResponseWriter, r *http.Request, p hub.Publication) (hub.Receipt, int64, error) {
	if err := checkEncoding(r); err != nil {
		return hub.Receipt{}, 0, err
	}
	control := http.NewResponseController(w)
	limit := s.Service.Policy().MaxMessageBytes
	body := content{budget: s.budget, caller: callerAt(w)}
	defer body.release()
	var up *hub.BlobWriter
	for ended := false; !ended; {
		_ = control.SetReadDeadline(time.Now().Add(s.BodyTimeout)) // fails without a connection, as in tests
		var err error
		if ended, err = body.fill(r.Body, hub.MaxInlineBytes+1); err != nil {
			return hub.Receipt{}, 0, err
		}
		if up == nil {
			if ended && len(body.bytes) <= hub.MaxInlineBytes {
				break
			}
			if err := s.budget.take(body.caller, blobCopyBytes); err != nil {
				return hub.Receipt{}, 0, err
			}
			defer s.budget.give(body.caller, blobCopyBytes)
			if up, err = s.Service.NewBlobWriter(r.Context(), p.Topic, p.ContentType); err != nil {
				return hub.Receipt{}, 0, err
			}
		}
		for have := len(body.bytes); have >= hub.MaxPartBytes || ended && have > 0; have = len(body.bytes) {
			if up.Size()+int64(have) > limit {
				return hub.Receipt{}, 0, s.tooLarge
			}
			part := min(have, hub.MaxPartBytes)
			if err := up.WritePart(r.Context(), body.bytes[:part]); err != nil {
				return hub.Receipt{}, 0, err
			}
			body.bytes = body.bytes[:copy(body.bytes, body.bytes[part:])]
		}
	}
	body.arrived()
	bodyRead(w)
	// The request's original deadlines are for a body of one part.
	_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(answerTime))
	if up == nil {
		p.Body = body.bytes
		receipt, err := s.Service.Publish(r.Context(), p)
		return receipt, int64(len(p.Body)), err
	}
	receipt, err := s.Service.PublishBlob(r.Context(), p, up)
	return receipt, up.Size(), err
}

// sendBlob sends a blob in pieces.
func (s *Server) sendBlob(w http.ResponseWriter, m *hub.Message) {
	s.sendBody(w, m, hub.NewBodyReader(s.Parts, m))
}

// sendBody sends what is read of a message's body.
func (s *Server) sendBody(w http.ResponseWriter, m *hub.Message, body io.Reader) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // fails without a connection, as in tests
	buf := make([]byte, blobWriteBytes)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(downloadTime))
			if _, err := w.Write(buf[:n]); err != nil {
				return // the client is gone
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			if !lost(err) {
				s.Log.Error("cannot read a blob", "message", m.ID(), "error", err)
			}
			panic(http.ErrAbortHandler) // only closing the connection shows that the body is incomplete
		}
	}
}
