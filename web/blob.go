package web

import (
	"errors"
	"io"
	"net/http"
	"time"

	"quorumhub/hub"
)

const (
	// blobUploadBytes is the memory of an upload: what was read, and its encoded copy on the way to the log.
	blobUploadBytes = 2 * (hub.MaxInlineBytes + 1)
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
	client := clientAt(w)
	if err := s.budget.take(client, blobUploadBytes); err != nil {
		return hub.Receipt{}, 0, err
	}
	defer s.budget.give(client, blobUploadBytes)
	control := http.NewResponseController(w)
	limit := s.Service.Policy().MaxMessageBytes
	buf := make([]byte, hub.MaxInlineBytes+1)
	var up *hub.BlobWriter
	have, ended := 0, false
	for !ended {
		_ = control.SetReadDeadline(time.Now().Add(s.BodyTimeout)) // fails without a connection, as in tests
		for have < len(buf) && !ended {
			n, err := r.Body.Read(buf[have:])
			have += n
			if err == io.EOF { // not errors.Is: a truncated body is a different error
				ended = true
			} else if err != nil {
				return hub.Receipt{}, 0, unreadable(err)
			}
		}
		if up == nil {
			if ended && have <= hub.MaxInlineBytes {
				break
			}
			var err error
			if up, err = s.Service.NewBlobWriter(r.Context(), p.Topic, p.ContentType); err != nil {
				return hub.Receipt{}, 0, err
			}
		}
		for have >= hub.MaxPartBytes || ended && have > 0 {
			if up.Size()+int64(have) > limit {
				return hub.Receipt{}, 0, s.tooLarge
			}
			part := min(have, hub.MaxPartBytes)
			if err := up.WritePart(r.Context(), buf[:part]); err != nil {
				return hub.Receipt{}, 0, err
			}
			have = copy(buf, buf[part:have])
		}
	}
	// The request's original deadlines are for a body of one part.
	_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(answerTime))
	if up == nil {
		p.Body = buf[:have]
		receipt, err := s.Service.Publish(r.Context(), p)
		return receipt, int64(have), err
	}
	receipt, err := s.Service.PublishBlob(r.Context(), p, up)
	return receipt, up.Size(), err
}

// sendBlob sends a blob in pieces.
func (s *Server) sendBlob(w http.ResponseWriter, m *hub.Message) {
	body := hub.NewBodyReader(s.Parts, m)
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
