package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"quorumhub/auth"
	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// authQuotas groups the commands for what principals may have.
type authQuotas struct {
	List  listQuotasCmd  `cmd:"" default:"withargs" help:"List the quotas by default, of roles and of principals (the default)."`
	Set   setQuotasCmd   `cmd:"" help:"Set quotas of a principal, of a role, or of everybody (default)."`
	Unset unsetQuotasCmd `cmd:"" help:"Remove quotas that were set, so that those of auth.file apply again."`
}

// quotaEntry is an entry as the API shows it.
type quotaEntry struct {
	Name   string            `json:"name"`
	Quotas auth.QuotaSetting `json:"quotas"`
	Set    auth.QuotaSetting `json:"set"`
	SetBy  string            `json:"set_by"`
}

type listQuotasCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listQuotasCmd) Run(ctx context.Context, s Streams) error {
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/auth/quotas", nil, "OF\tQUOTAS\tSET HERE\tBY",
		func(e quotaEntry) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s", terminal.OneLine(e.Name), quotaText(&e.Quotas), terminal.OrDash(quotaText(&e.Set)), terminal.OrDash(e.SetBy))
		})
}

// quotaText returns an entry as set takes it.
func quotaText(q *auth.QuotaSetting) string {
	var out []string
	for _, name := range auth.QuotaNames() {
		if l := q.Get(name); l != nil {
			out = append(out, name+"="+l.Text(name))
		}
	}
	return strings.Join(out, " ")
}

type setQuotasCmd struct {
	hubFlags
	Name   string   `arg:"" help:"A principal such as issuer:idp/123, the name of a role, or default."`
	Quotas []string `arg:"" name:"QUOTA=LIMIT" help:"What to limit, and to how much; 0: no limit."`
	JSON   bool     `name:"json" help:"Print JSON."`
}

// Help is shown by --help below the flags.
func (c *setQuotasCmd) Help() string {
	return `The quotas are ` + strings.Join(auth.QuotaNames(), ", ") + `.
Those of bytes take sizes and shares of the hub's own limit. Quotas that are not named stay as they are.

    quorumhub auth quotas set default topics=200 stored_bytes=5%
    quorumhub auth quotas set partner subscriptions=50000
    quorumhub auth quotas set issuer:idp/123 stored_bytes=10GiB dead_letter_bytes=64MiB`
}

func (c *setQuotasCmd) Run(ctx context.Context, s Streams) error {
	var given auth.QuotaSetting
	for _, arg := range c.Quotas {
		name, limit, ok := strings.Cut(arg, "=")
		if !ok {
			return exit.Usagef("%q; expected QUOTA=LIMIT, such as topics=200", arg)
		}
		if err := given.SetText(name, limit); err != nil {
			return exit.Usagef("%v", err)
		}
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	set, err := quotasSet(ctx, hub, c.Name)
	if err != nil {
		return err
	}
	return putQuotas(ctx, s, hub, c.Name, given.Over(&set), c.JSON)
}

func quotaPath(name string) string { return "/v1/auth/quotas/" + url.PathEscape(name) }

// quotasSet returns what has been set under a name, which is nothing if there is no such entry.
func quotasSet(ctx context.Context, hub *client.Client, name string) (auth.QuotaSetting, error) {
	items, err := hub.List(ctx, "/v1/auth/quotas", nil)
	if err != nil {
		return auth.QuotaSetting{}, err
	}
	for _, raw := range items {
		var e quotaEntry
		if err := json.Unmarshal(raw, &e); err != nil {
			return auth.QuotaSetting{}, hub.Unexpected("/v1/auth/quotas", err)
		}
		if e.Name == name {
			return e.Set, nil
		}
	}
	return auth.QuotaSetting{}, nil
}

func putQuotas(ctx context.Context, s Streams, hub *client.Client, name string, set auth.QuotaSetting, asJSON bool) error {
	answer, err := hub.Call(ctx, http.MethodPut, quotaPath(name), set, "name")
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(s.Out, answer)
	}
	var e quotaEntry
	if err := json.Unmarshal(answer, &e); err != nil {
		return hub.Unexpected(quotaPath(name), err)
	}
	_, err = fmt.Fprintf(s.Out, "quotas of %s: %s\n", terminal.OneLine(e.Name), quotaText(&e.Quotas))
	return err
}

type unsetQuotasCmd struct {
	hubFlags
	Name   string   `arg:"" help:"A principal such as issuer:idp/123, the name of a role, or default."`
	Quotas []string `arg:"" optional:"" name:"QUOTA" help:"Only these; without any, all that were set."`
}

func (c *unsetQuotasCmd) Run(ctx context.Context, s Streams) error {
	for _, name := range c.Quotas {
		if !slices.Contains(auth.QuotaNames(), name) {
			return exit.Usagef("quota %q is unknown; expected %s", name, strings.Join(auth.QuotaNames(), ", "))
		}
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	if len(c.Quotas) > 0 {
		set, err := quotasSet(ctx, hub, c.Name)
		if err != nil {
			return err
		}
		for _, name := range c.Quotas {
			if set.Get(name) == nil {
				return exit.With(exit.Refused, fmt.Errorf("%s: %s was not set here", terminal.OneLine(c.Name), name))
			}
			_ = set.Set(name, nil) // a known name
		}
		if !set.Empty() {
			return putQuotas(ctx, s, hub, c.Name, set, false)
		}
	}
	if _, err := hub.Call(ctx, http.MethodDelete, quotaPath(c.Name), nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "quotas of %s removed; those of auth.file apply\n", terminal.OneLine(c.Name))
	return err
}
