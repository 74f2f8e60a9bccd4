package web

import (
	"errors"
	"io"
	"net/http"
	"time"

	"quorumhub/hub"
)

const (
	// blobUploadBytes is what an upload holds in memory: what was read, and its encoded copy on the way into the log.
	blobUploadBytes = 2 * (hub.MaxInlineBytes + 1)
	// blobWriteBytes is what a large answer holds in memory, and what its reader has downloadTime for.
	blobWriteBytes = 32 << 10
	downloadTime   = 30 * time.Second
)

// mayBeBlob tells whether the body may be too large for one entry of the log.
func (s *Server) mayBeBlob(r *http.Request) bool {
	limit := s.Service.Policy().MaxMessageBytes
	return limit > hub.MaxInlineBytes && (r.ContentLength > hub.MaxInlineBytes && r.ContentLength <= limit || r.ContentLength < 0)
}

// publishStream publishes a body that is or may be large. It goes into the log part by part as it comes, so that the
// memory it takes does not depend on its size. The client has Options.BodyTimeout for each part.
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
		_ = control.SetReadDeadline(time.Now().Add(s.BodyTimeout)) // without a connection there is none
		for have < len(buf) && !ended {
			n, err := r.Body.Read(buf[have:])
			have += n
			if err == io.EOF { //nolint:errorlint // a body that was cut off is another error
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
	// The deadlines that came with the request are for bodies of one part.
	_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(answerTime))
	if up == nil {
		p.Body = buf[:have]
		receipt, err := s.Service.Publish(r.Context(), p)
		return receipt, int64(have), err
	}
	receipt, err := s.Service.PublishBlob(r.Context(), p, up)
	return receipt, up.Size(), err
}

// sendBlob sends a large body piece by piece.
func (s *Server) sendBlob(w http.ResponseWriter, m *hub.Message) {
	body := hub.NewBodyReader(s.Parts, m)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // without a connection there is none
	buf := make([]byte, blobWriteBytes)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(downloadTime))
			if _, err := w.Write(buf[:n]); err != nil {
				return // the client is gone: nobody is left to tell
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			if !lost(err) {
				s.Log.Error("a large message cannot be read", "message", m.ID(), "error", err)
			}
			panic(http.ErrAbortHandler) // only the end of the connection shows that the body is not whole
		}
	}
}
