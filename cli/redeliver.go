package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"quorumhub/cli/terminal"
)

// sendTry is an attempt as the admin API shows it.
type sendTry struct {
	At      string  `json:"at"`
	Outcome string  `json:"outcome"`
	Status  int     `json:"status"`
	Latency float64 `json:"latency_ms"`
	Reason  string  `json:"reason"`
	Kind    string  `json:"kind"`
}

// sentWords says what became of a message that was sent on request.
func sentWords(id string) func(json.RawMessage) (string, error) {
	return func(answer json.RawMessage) (string, error) {
		var a struct {
			sendTry
			Node    string `json:"node"`
			Message string `json:"message_id"`
			Phases  *struct {
				Lookup  float64 `json:"lookup_ms"`
				Connect float64 `json:"connect_ms"`
				TLS     float64 `json:"tls_ms"`
				Wait    float64 `json:"wait_ms"`
			} `json:"phases"`
		}
		if err := json.Unmarshal(answer, &a); err != nil {
			return "", err
		}
		text := fmt.Sprintf("%s was sent to %s by %s: %s (%s) after %s", terminal.OneLine(a.Message), id, terminal.OneLine(a.Node), terminal.OneLine(a.Outcome), outcome(a.Status, a.Reason), latency(a.Latency))
		if p := a.Phases; p != nil {
			text += fmt.Sprintf("\nname lookup %s, connection %s, TLS %s, waiting %s", latency(p.Lookup), latency(p.Connect), latency(p.TLS), latency(p.Wait))
		}
		return text, nil
	}
}

type redeliverCmd struct {
	subscriptionFlags
	Message string `required:"" help:"The ID of the message, such as 3-17." placeholder:"ID"`
}

func (c *redeliverCmd) Run(ctx context.Context, s Streams) error {
	body := struct {
		Message string `json:"message_id"`
	}{c.Message}
	return c.operate(ctx, s, http.MethodPost, "/redeliver", body, sentWords(c.ID), "outcome")
}

type testMessageCmd struct {
	subscriptionFlags
	Body        string `help:"The content. Without it and --content-type, JSON that says what it is." placeholder:"TEXT"`
	ContentType string `help:"The content's type. Default with --body: text/plain." placeholder:"TYPE"`
}

func (c *testMessageCmd) Run(ctx context.Context, s Streams) error {
	body := struct {
		Body        string `json:"body,omitempty"`
		ContentType string `json:"content_type,omitempty"`
	}{c.Body, c.ContentType}
	return c.operate(ctx, s, http.MethodPost, "/test", body, sentWords(c.ID), "outcome")
}
