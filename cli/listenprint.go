package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"quorumhub/cli/subscriber"
	"quorumhub/cli/terminal"
)

// previewBytes is how much of a body is printed without --full.
const previewBytes = 400

// writeDelivery prints a delivery in human-readable form.
func writeDelivery(w io.Writer, d subscriber.Delivery, full bool) error {
	signature := d.Signature
	if d.Method != "" {
		signature += " (" + terminal.OneLine(d.Method) + ")"
	}
	if d.Duplicate {
		signature += ", repeated"
	}
	if d.Answer != nil {
		signature += "  " + answerText(d.Answer)
	}
	_, err := fmt.Fprintf(w, "%s  message %s  %s  %s  signature %s\n%s\n",
		d.Time.Format("15:04:05.000"), terminal.OrDash(d.MessageID), terminal.OrDash(d.ContentType), terminal.Bytes(int64(len(d.Body))), signature, bodyText(d.Body, full))
	return err
}

// bodyText returns a body safe for a terminal, indented, and cut to previewBytes unless full.
func bodyText(body []byte, full bool) string {
	shown := body
	if !full && len(shown) > previewBytes {
		shown = shown[:previewBytes]
		// Half a character at the end would look like binary data.
		for i := 0; i < utf8.UTFMax-1 && len(shown) > 0 && !utf8.Valid(shown); i++ {
			shown = shown[:len(shown)-1]
		}
	}
	if !utf8.Valid(shown) {
		return "    (binary)"
	}
	text := "    " + strings.ReplaceAll(strings.TrimRight(terminal.Printable(string(shown)), "\n"), "\n", "\n    ")
	if len(shown) < len(body) {
		text += fmt.Sprintf("\n    … %s more", terminal.Bytes(int64(len(body)-len(shown))))
	}
	return text
}

// writeDeliveryJSON prints a delivery as one line of JSON. The body is a string if it is valid UTF-8, else base64.
func writeDeliveryJSON(w io.Writer, d subscriber.Delivery) error {
	line := struct {
		Time        time.Time `json:"time"`
		MessageID   string    `json:"message_id"`
		Topic       string    `json:"topic"`
		ContentType string    `json:"content_type"`
		Size        int       `json:"size"`
		Signature   string    `json:"signature"`
		Method      string    `json:"signature_method,omitempty"`
		Duplicate   bool      `json:"duplicate"`
		Body        *string   `json:"body,omitempty"`
		BodyBase64  string    `json:"body_base64,omitempty"`
		Answer      int       `json:"answer_status,omitempty"`
		AnswerTook  float64   `json:"answer_ms,omitempty"`
		AnswerError string    `json:"answer_error,omitempty"`
	}{
		Time: d.Time.UTC(), MessageID: d.MessageID, Topic: d.Topic, ContentType: d.ContentType, Size: len(d.Body),
		Signature: d.Signature, Method: d.Method, Duplicate: d.Duplicate,
	}
	if a := d.Answer; a != nil {
		line.Answer, line.AnswerTook = a.Status, float64(a.Took.Microseconds())/1000
		if a.Err != nil {
			line.AnswerError = a.Err.Error()
		}
	}
	if utf8.Valid(d.Body) {
		text := string(d.Body)
		line.Body = &text
	} else {
		line.BodyBase64 = base64.StdEncoding.EncodeToString(d.Body)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(line)
}

// answerText describes the answer of the program to which a delivery was forwarded.
func answerText(a *subscriber.Answer) string {
	if a.Err != nil {
		return "no answer: " + terminal.OneLine(a.Err.Error())
	}
	return fmt.Sprintf("answered %d in %s", a.Status, terminal.Duration(a.Took))
}
