package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	ndjsonType    = "application/x-ndjson"
	multipartType = "multipart/mixed"
	// batchFraming is what a batch may contain besides its messages: boundaries and part headers.
	batchFraming = 256 << 10
)

type batchAnswer struct {
	Topic     string         `json:"topic"`
	Duplicate bool           `json:"duplicate"`
	Messages  []batchMessage `json:"messages"`
}

type batchMessage struct {
	ID     string `json:"id"`
	Offset uint64 `json:"offset"`
}

// publishBatch publishes the request's body as several messages to a topic: the parts of multipart/mixed, or the lines of
// application/x-ndjson. It publishes all of them or none.
func (s *Server) publishBatch(w http.ResponseWriter, r *http.Request, topic string) {
	start := time.Now()
	var b hub.Batch
	var body content
	err := s.spend(w, classPublish)
	if err == nil {
		err = s.Service.AuthorizePublish(r.Context(), topic) // before the body is read
	}
	if err == nil {
		b, body, err = s.readBatch(w, r)
	}
	defer func() { body.release() }()
	var receipt hub.BatchReceipt
	if err == nil {
		b.Topic, b.Authorized = topic, true
		receipt, err = s.Service.PublishBatch(r.Context(), b)
	}
	if err != nil {
		s.metrics.notPublished(s.fail(w, r, err))
		return
	}
	out := batchAnswer{Topic: s.Service.Namer().URL(topic), Duplicate: receipt.Duplicate, Messages: make([]batchMessage, receipt.Count)}
	for i := range out.Messages {
		out.Messages[i] = batchMessage{receipt.MessageID(i), receipt.First + uint64(i)}
		s.metrics.published(int64(len(b.Items[i].Body)), receipt.Duplicate, start)
	}
	if receipt.Duplicate {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	s.noticeOf(w.Header(), receipt.Topic)
	writeJSON(w, http.StatusOK, out)
}

// readBatch reads a batch. Release the content, whose memory the batch shares, even after an error.
func (s *Server) readBatch(w http.ResponseWriter, r *http.Request) (b hub.Batch, body content, err error) {
	given := r.Header["Content-Type"]
	kind, params, err := mime.ParseMediaType(strings.Join(given, ","))
	if err != nil || len(given) != 1 || kind != ndjsonType && kind != multipartType {
		return b, body, &problem.Details{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Param: "Content-Type",
			Detail: "is " + problem.Quote(strings.Join(given, ", ")) + "; a batch (hub.batch=true) is " + multipartType + " or " + ndjsonType}
	}
	if b.IdempotencyKey, err = idempotencyKey(r); err != nil {
		return b, body, err
	}
	if body, err = s.readBody(w, r, hub.MaxBatchBytes+batchFraming, hub.BatchTooLarge()); err != nil {
		return b, body, fmt.Errorf("read batch: %w", err)
	}
	if kind == ndjsonType {
		b.Items, err = batchLines(body.bytes)
	} else {
		b.Items, err = batchParts(body.bytes, params["boundary"])
	}
	return b, body, err
}

// batchLines makes a message of type application/json from each line, unchanged. It skips empty lines.
func batchLines(body []byte) (items []hub.Item, err error) {
	n := 0
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		n++
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if !json.Valid(line) {
			return nil, badBody("line %d is not JSON; expected one JSON value per line", n)
		}
		if len(items) > hub.MaxBatchMessages {
			break // PublishBatch reports the error
		}
		items = append(items, hub.Item{ContentType: "application/json", Body: line})
	}
	return items, nil
}

// batchParts makes a message of each part, with the part's Content-Type.
func batchParts(body []byte, boundary string) (items []hub.Item, err error) {
	if boundary == "" {
		return nil, hub.ParamErrorf("Content-Type", "has no boundary")
	}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for len(items) <= hub.MaxBatchMessages {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		n := len(items) + 1
		if err != nil {
			return nil, badBody("part %d cannot be read (%v)", n, err)
		}
		switch enc := strings.ToLower(part.Header.Get("Content-Transfer-Encoding")); enc {
		case "", "binary", "8bit", "7bit":
		default:
			return nil, badBody("part %d has Content-Transfer-Encoding %s; send the bytes as they are (binary)", n, problem.Quote(enc))
		}
		item := hub.Item{ContentType: "application/octet-stream"}
		if given := part.Header["Content-Type"]; len(given) == 1 {
			item.ContentType = given[0]
		} else if len(given) > 1 {
			return nil, badBody("part %d has %d Content-Types; expected one", n, len(given))
		}
		if item.Body, err = io.ReadAll(part); err != nil {
			return nil, badBody("part %d is truncated (%v)", n, err)
		}
		items = append(items, item)
	}
	return items, nil
}
