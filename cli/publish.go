package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// maxPublishBytes is the largest message size a hub can be configured for; more is not even read.
const maxPublishBytes = 64 << 20

type publishCmd struct {
	hubFlags
	Topic          string  `arg:"" help:"The topic's URL, or the name of a hosted topic."`
	Data           *string `short:"d" help:"The content." xor:"content" placeholder:"TEXT"`
	File           string  `short:"f" help:"A file with the content, or - for standard input (the default)." xor:"content" placeholder:"FILE"`
	ContentType    string  `short:"t" help:"The content type. Default: text/plain for --data; else derived from the file name, or application/octet-stream." placeholder:"TYPE"`
	Batch          string  `short:"b" help:"A file of JSON values, one per line, or - for standard input. Each is a message; either all are published or none." xor:"content" placeholder:"FILE"`
	Thin           bool    `help:"Send no content; tell the hub to fetch the topic." xor:"content"`
	IdempotencyKey string  `short:"k" help:"Publishing again with the same key and content within a day creates no second message." placeholder:"KEY"`
	JSON           bool    `name:"json" help:"Print JSON."`
}

// Help is shown by --help below the flags.
func (c *publishCmd) Help() string {
	return `Examples:

    quorumhub publish news --data "hello"
    quorumhub publish news --file feed.xml
    quorumhub publish orders --batch orders.ndjson --idempotency-key import-17
    quorumhub publish https://example.org/feed.xml --thin`
}

func (c *publishCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	topic, err := hub.TopicURL(c.Topic)
	if err != nil {
		return err
	}
	if c.IdempotencyKey == "" && !c.Thin && hub.Nodes() > 1 {
		c.IdempotencyKey = rand.Text() // so that another node may be asked without publishing twice
	}
	if c.Thin {
		if c.IdempotencyKey != "" || c.ContentType != "" {
			return exit.Usagef("--thin sends no content, so it cannot be combined with --idempotency-key or --content-type")
		}
		if err := hub.Ping(ctx, topic); err != nil {
			return err
		}
		return c.report(s, topic, "")
	}
	if c.Batch != "" {
		return c.publishBatch(ctx, s, hub, topic)
	}
	m, err := c.message(s.In)
	if err != nil {
		return err
	}
	id, err := hub.Publish(ctx, topic, m)
	if err != nil {
		return err
	}
	return c.report(s, topic, id)
}

func (c *publishCmd) report(s Streams, topic, id string) error {
	if c.JSON {
		return writeJSON(s.Out, struct {
			Topic     string `json:"topic"`
			MessageID string `json:"message_id,omitempty"`
			Thin      bool   `json:"thin"`
		}{topic, id, c.Thin})
	}
	if c.Thin {
		_, err := fmt.Fprintf(s.Out, "the hub will fetch %s\n", topic)
		return err
	}
	_, err := fmt.Fprintf(s.Out, "published message %s to %s\n", terminal.Printable(id), topic)
	return err
}

// publishBatch runs the command with --batch.
func (c *publishCmd) publishBatch(ctx context.Context, s Streams, hub *client.Client, topic string) error {
	if c.ContentType != "" {
		return exit.Usagef("--content-type cannot be combined with --batch, whose messages are application/json")
	}
	name, in := "standard input", s.In
	if c.Batch != "-" {
		f, err := os.Open(c.Batch)
		if err != nil {
			return exit.Usagef("--batch: %v", err)
		}
		defer f.Close()
		name, in = c.Batch, f
	}
	body, err := readContent(name, in)
	if err != nil {
		return err
	}
	raw, ids, err := hub.PublishBatch(ctx, topic, client.Message{Body: body, ContentType: "application/x-ndjson", IdempotencyKey: c.IdempotencyKey})
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := s.Out.Write(raw)
		return err
	}
	_, err = fmt.Fprintf(s.Out, "published %d messages to %s: %s to %s\n", len(ids), topic, terminal.Printable(ids[0]), terminal.Printable(ids[len(ids)-1]))
	return err
}

// message reads the content and determines its type.
func (c *publishCmd) message(stdin io.Reader) (client.Message, error) {
	m := client.Message{ContentType: c.ContentType, IdempotencyKey: c.IdempotencyKey}
	var def string
	switch {
	case c.Data != nil:
		m.Body, def = []byte(*c.Data), "text/plain; charset=utf-8"
	case c.File == "" || c.File == "-":
		if f, ok := stdin.(*os.File); ok && c.File == "" && terminal.Is(f) {
			return client.Message{}, exit.Usagef("no content; expected --data TEXT, --file FILE or input on standard input")
		}
		body, err := readContent("standard input", stdin)
		if err != nil {
			return client.Message{}, err
		}
		m.Body, def = body, "application/octet-stream"
	default:
		f, err := os.Open(c.File)
		if err != nil {
			return client.Message{}, exit.Usagef("--file: %v", err)
		}
		defer f.Close()
		if m.Body, err = readContent(c.File, f); err != nil {
			return client.Message{}, err
		}
		if def = mime.TypeByExtension(filepath.Ext(c.File)); def == "" {
			def = "application/octet-stream"
		}
	}
	if m.ContentType == "" {
		m.ContentType = def
	}
	return m, nil
}

func readContent(name string, r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxPublishBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(body) > maxPublishBytes {
		return nil, exit.Usagef("%s is larger than %d bytes, the most that a hub accepts", name, maxPublishBytes)
	}
	return body, nil
}
