package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// topicContent describes how subscriptions get a topic's content, for people.
func topicContent(t *client.Topic) string {
	content, share := "in the deliveries", t.Share
	if t.RequireEncryption {
		content = "encrypted, " + content
	}
	switch {
	case share == nil:
		return content
	case t.Content == "reference":
		content = strings.Replace(content, "in the deliveries", "by reference", 1)
	default:
		content += ", or by reference for those who ask"
	}
	text := content + " (uses: " + strconv.Itoa(share.Uses) + ", within " + terminal.OneLine(share.For)
	if share.Require == "same-principal" {
		return text + ", by the owner of the subscription)"
	}
	return text + ", by whoever has the reference)"
}

type topicContentCmd struct {
	hubFlags
	Topic   string `arg:"" help:"The name of a hosted topic, or the URL of a foreign topic."`
	Mode    string `arg:"" enum:"body,offer,reference" help:"body: in the deliveries. reference: a reference in its place. offer: a reference for those who ask for it (hub.content=reference)."`
	Uses    *int   `help:"How often a reference may be used; default: 3." placeholder:"N"`
	For     string `help:"How long a reference is good, such as 10m, 24h or 7d; default: 24h." placeholder:"DURATION"`
	Require string `enum:"ticket,same-principal" default:"ticket" help:"Who may use a reference: whoever has it (ticket), or the owner of the subscription only (same-principal)."`
	Encrypt *bool  `name:"require-encryption" help:"Whether subscriptions must name a key to encrypt to; without this, that stays as it is."`
	JSON    bool   `name:"json" help:"Print the topic as JSON."`
}

// Help is shown by --help below the flags.
func (c *topicContentCmd) Help() string {
	return `A delivery by reference has the message's id, type, size, SHA-256 and a URL, from which the content is fetched so often and so long
as the topic's owner says. The owner of a topic may set this, and operators.

    quorumhub topics content reports reference --uses 1 --for 1h`
}

// Run sets how subscriptions get a topic's content.
func (c *topicContentCmd) Run(ctx context.Context, s Streams) error {
	body := map[string]any{"content": c.Mode}
	if c.Mode == "offer" {
		body["content"] = "body"
	}
	if c.Encrypt != nil {
		body["require_encryption"] = *c.Encrypt
	}
	if c.Mode != "body" {
		share := map[string]any{"require": c.Require}
		if c.Uses != nil {
			share["uses"] = *c.Uses
		}
		if c.For != "" {
			share["for"] = c.For
		}
		body["share"] = share
	} else if c.Uses != nil || c.For != "" {
		return exit.Usagef("--uses, --for: are about references, expected the mode offer or reference")
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPut, "/v1/topics/"+url.PathEscape(c.Topic), body, func(raw json.RawMessage) (string, error) {
		var t client.Topic
		err := json.Unmarshal(raw, &t)
		return terminal.OneLine(t.Name) + " gives out its content " + topicContent(&t), err
	}, "name")
}

type revokeReferencesCmd struct {
	hubFlags
	Topic string `arg:"" help:"The name of a hosted topic, or the URL of a foreign topic."`
	ID    string `name:"message" help:"Only references to one message, by its ID (12-34) or offset (34)." placeholder:"ID"`
}

// Help is shown by --help below the flags.
func (c *revokeReferencesCmd) Help() string {
	return `Without --message, references to all messages up to the newest one end. This is for good: later deliveries of these messages, too,
have references that open nothing. The owner of a topic may do this, and operators.`
}

// Run ends references.
func (c *revokeReferencesCmd) Run(ctx context.Context, s Streams) error {
	body, what := map[string]any{"topic": c.Topic}, "all messages of "+c.Topic+" up to the newest"
	if c.ID != "" {
		offset, err := strconv.ParseUint(c.ID[strings.LastIndex(c.ID, "-")+1:], 10, 64)
		if err != nil || offset == 0 {
			return exit.Usagef("--message: got %q, expected a message ID such as 12-34, or an offset such as 34", c.ID)
		}
		body["offset"], what = offset, "message "+strconv.FormatUint(offset, 10)+" of "+c.Topic
	}
	return callHub(ctx, s, &c.hubFlags, false, http.MethodPost, "/v1/references/revoke", body, func(json.RawMessage) (string, error) {
		return "the references to " + terminal.OneLine(what) + " are revoked", nil
	})
}
