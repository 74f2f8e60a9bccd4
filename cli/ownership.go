package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

type reassignCmd struct {
	hubFlags
	IDs    []string `arg:"" optional:"" name:"ID" help:"The subscriptions, such as s-17; without any, all of --from."`
	From   string   `help:"The current owner, such as key/0123456789ab." placeholder:"PRINCIPAL"`
	To     string   `help:"The new owner, such as issuer:idp/123." placeholder:"PRINCIPAL"`
	Nobody bool     `help:"Release them to the next principal that renews them."`
	JSON   bool     `name:"json" help:"Print JSON."`
}

func (c *reassignCmd) Run(ctx context.Context, s Streams) error {
	switch {
	case len(c.IDs) == 0 && c.From == "":
		return exit.Usagef("expected the IDs of subscriptions, or --from with their owner")
	case (c.To == "") != c.Nobody:
		return exit.Usagef("expected either --to with the new owner or --nobody")
	}
	body := map[string]any{"to": c.To}
	if len(c.IDs) > 0 {
		body["subscriptions"] = c.IDs
	}
	if c.From != "" {
		body["from"] = c.From
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPost, "/v1/subscriptions/reassign", body, func(raw json.RawMessage) (string, error) {
		var out struct{ Reassigned int }
		err := json.Unmarshal(raw, &out)
		return fmt.Sprintf("%d subscriptions reassigned; those that are paused stay so until they are resumed", out.Reassigned), err
	}, "reassigned")
}

type usageCmd struct {
	hubFlags
	Principal string `arg:"" optional:"" help:"The principal, such as issuer:idp/123. Default: all with admin.view, otherwise yourself."`
	JSON      bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

// used is an amount and its limit.
type used struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

func (u used) String() string {
	if u.Limit == 0 {
		return strconv.FormatInt(u.Used, 10)
	}
	return fmt.Sprintf("%d/%d", u.Used, u.Limit)
}

// bytes is String for an amount of bytes.
func (u used) bytes() string {
	if u.Limit == 0 {
		return terminal.Bytes(u.Used)
	}
	return terminal.Bytes(u.Used) + "/" + terminal.Bytes(u.Limit)
}

func (c *usageCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	if c.Principal != "" {
		query.Set("principal", c.Principal)
	}
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/auth/usage", query,
		"PRINCIPAL\tTOPICS\tSUBSCRIPTIONS\tPENDING\tIDEMPOTENCY KEYS\tAPI KEYS\tNONCES A MINUTE\tSTREAMS HERE\tSTORED\tDEAD LETTERS",
		func(u struct {
			Principal       string
			Topics          used
			Subscriptions   used
			PendingRequests used `json:"pending_requests"`
			IdempotencyKeys used `json:"idempotency_keys"`
			APIKeys         used `json:"api_keys"`
			Nonces          used `json:"nonces_per_minute"`
			StoredBytes     used `json:"stored_bytes"`
			DeadLetters     int  `json:"dead_letters"`
			DeadLetterBytes used `json:"dead_letter_bytes"`
			Node            struct{ Streams used }
		}) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d, %s", terminal.OneLine(u.Principal), u.Topics, u.Subscriptions, u.PendingRequests,
				u.IdempotencyKeys, u.APIKeys, u.Nonces, u.Node.Streams, u.StoredBytes.bytes(), u.DeadLetters, u.DeadLetterBytes.bytes())
		})
}

type endOwnerCmd struct {
	hubFlags
	Principal string `arg:"" help:"The principal, such as cert/alice.example.org."`
	End       bool   `name:"end-subscriptions" help:"End its subscriptions at once, instead of pausing them."`
	JSON      bool   `name:"json" help:"Print JSON."`
}

func (c *endOwnerCmd) Run(ctx context.Context, s Streams) error {
	body := map[string]any{"owner": c.Principal, "end_subscriptions": c.End}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPost, "/v1/auth/end-owner", body, func(raw json.RawMessage) (string, error) {
		var out struct {
			Paused int `json:"subscriptions_paused"`
			Ended  int `json:"subscriptions_ended"`
			Logins int `json:"sessions_ended"`
		}
		err := json.Unmarshal(raw, &out)
		text := fmt.Sprintf("%d subscriptions are paused until they are reassigned (subscriptions reassign --from %s)", out.Paused, terminal.OneLine(c.Principal))
		if c.End {
			text = fmt.Sprintf("%d subscriptions ended", out.Ended)
		}
		if out.Logins > 0 {
			text += fmt.Sprintf("; %d sessions ended", out.Logins)
		}
		return text, err
	}, "owner")
}
