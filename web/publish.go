package web

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"quorumhub/hub"
)

const messageIDHeader = "X-Hub-Message-Id"

// publish publishes the request's body to a topic: POST /hub with the parameters in the query, and POST /topics/<name>. nameErr
// is the error in the topic's name, if any.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, topic string, nameErr error) {
	start := time.Now()
	var receipt hub.Receipt
	var size int64
	err := s.spend(w, classPublish)
	if err == nil {
		receipt, size, err = s.publishContent(w, r, topic, nameErr)
	}
	if err != nil {
		s.metrics.notPublished(s.fail(w, r, err))
		return
	}
	s.metrics.published(size, receipt.Duplicate, start)
	h := w.Header()
	h[messageIDHeader] = []string{receipt.MessageID()}
	if receipt.Duplicate {
		h["Idempotency-Replayed"] = []string{"true"}
	}
	forgotten(h, receipt.KeysForgotten)
	s.noticeOf(h, receipt.Topic)
	writeAccepted(w)
}

func (s *Server) publishContent(w http.ResponseWriter, r *http.Request, topic string, nameErr error) (hub.Receipt, int64, error) {
	if nameErr != nil {
		return hub.Receipt{}, 0, nameErr
	}
	if err := s.Service.AuthorizePublish(r.Context(), topic); err != nil {
		return hub.Receipt{}, 0, err // before the body is read
	}
	p := hub.Publication{Topic: topic, ContentType: "application/octet-stream", Authorized: true}
	switch given := r.Header["Content-Type"]; {
	case len(given) == 1 && given[0] != "":
		p.ContentType = given[0]
	case len(given) > 1:
		return hub.Receipt{}, 0, hub.ParamErrorf("Content-Type", "is given %d times; expected once", len(given))
	}
	var err error
	if p.IdempotencyKey, err = idempotencyKey(r); err != nil {
		return hub.Receipt{}, 0, err
	}
	for _, name := range s.Service.Policy().KeyHeaders {
		if given := r.Header[name]; given != nil {
			p.Headers = append(p.Headers, hub.Header{Name: name, Value: given[0]})
		}
	}
	if s.mayBeBlob(r) && !s.CompactJSON && !s.Service.ChecksContent(topic) { // compacting and checking need the body in memory
		return s.publishStream(w, r, p)
	}
	body, err := s.readBody(w, r, s.Service.Policy().MaxMessageBytes, s.tooLarge)
	defer body.release()
	if err != nil {
		return hub.Receipt{}, 0, fmt.Errorf("read content: %w", err)
	}
	p.Body = body.bytes
	if s.CompactJSON {
		if err := compact(&p); err != nil {
			return hub.Receipt{}, 0, err
		}
	}
	receipt, err := s.Service.Publish(r.Context(), p)
	return receipt, int64(len(p.Body)), err
}

// forgotten tells the publisher that older idempotency keys were given up before their time, to make room: a publication under one of
// these would not be recognised.
func forgotten(h http.Header, keys int) {
	if keys > 0 {
		h["Idempotency-Keys-Forgotten"] = []string{strconv.Itoa(keys)}
	}
}

func idempotencyKey(r *http.Request) (string, error) {
	given := r.Header["Idempotency-Key"]
	if given == nil {
		return "", nil
	}
	if len(given) > 1 || given[0] == "" {
		return "", hub.ParamErrorf("Idempotency-Key", "is empty or given more than once; expected one key chosen by the publisher")
	}
	return given[0], nil
}

// writeAccepted answers a request that is complete.
func writeAccepted(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = []string{formType}
	h["Content-Length"] = []string{"17"}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte("hub.mode=accepted"))
}
