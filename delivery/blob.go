package delivery

import (
	"context"
	"errors"
	"io"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// Blob is a body that is read from the log while it is sent.
type Blob struct {
	Open func() io.Reader // reads from the start; called for each pass over the body
	Size int64
}

// contentOf returns a message as it is to be sent.
func contentOf(m *hub.Message, parts hub.PartReader, link string, notices *hub.TopicNotices) Content {
	c := Content{Body: m.Body, ContentType: m.ContentType, Link: link, MessageID: m.ID(), Notice: notices.Of(m.Topic), Kept: m.Headers}
	if m.IsBlob() {
		c.Blob = &Blob{Open: func() io.Reader { return hub.NewBodyReader(parts, m) }, Size: m.Size()}
	}
	return c
}

// blobBytesPerSecond is the rate, in bytes per second, that a large body is granted beyond DispatcherOptions.Timeout.
const blobBytesPerSecond = 1 << 20

// blobTime returns how much longer an attempt may take because of its body's size.
func blobTime(m *hub.Message) time.Duration {
	if !m.IsBlob() {
		return 0
	}
	return time.Duration(m.Size()) * time.Second / blobBytesPerSecond
}

// blobBody is one pass over a large body. It fails once ctx ends.
type blobBody struct {
	ctx    context.Context
	source io.Reader
}

func (b *blobBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.source.Read(p)
}

func (b *blobBody) Close() error { return nil }

// pushBlob is Push for a body that is not in memory. It reads the body once for each kind of signature, because
// signatures go into the header, and once to send it.
func (p *Pusher) pushBlob(ctx context.Context, e *Endpoint, c *Content, start time.Time) PushResult {
	fields, err := e.page.Append(ctx, e.fields(c, start, nil))
	if err != nil {
		return p.failed(ctx, err, start)
	}
	if e.signer != nil {
		signature, err := e.signer.SignReader(&blobBody{ctx, c.Blob.Open()})
		if err != nil {
			return p.blobReadFailed(ctx, err, start)
		}
		fields = append(fields, egress.Field{Name: headerSignature, Value: signature})
	}
	if e.webhooks != nil {
		timestamp, signature, err := e.webhooks.SignReader(c.MessageID, start, &blobBody{ctx, c.Blob.Open()})
		if err != nil {
			return p.blobReadFailed(ctx, err, start)
		}
		fields = append(fields, webhookFields(c.MessageID, timestamp, signature)...)
	}
	req := e.newRequest(ctx, fields)
	req.Body, req.ContentLength = &blobBody{ctx, c.Blob.Open()}, c.Blob.Size
	req.GetBody = func() (io.ReadCloser, error) { return &blobBody{ctx, c.Blob.Open()}, nil }
	a, err := p.send(req)
	if err != nil {
		return p.blobReadFailed(ctx, err, start)
	}
	return p.answered(e, a, start)
}

// blobReadFailed distinguishes a body that cannot be read from an endpoint that fails.
func (p *Pusher) blobReadFailed(ctx context.Context, err error, start time.Time) PushResult {
	switch {
	case errors.Is(err, hub.ErrTrimmed):
		return PushResult{Outcome: PushCancelled, Reason: egress.ReasonCancelled, Latency: p.Clock.Now().Sub(start)} // retention dropped the message
	case errors.Is(err, hub.ErrCorrupt):
		return PushResult{Outcome: PushDown, Reason: egress.ReasonUnreadable, Latency: p.Clock.Now().Sub(start)}
	}
	return p.failed(ctx, err, start)
}
