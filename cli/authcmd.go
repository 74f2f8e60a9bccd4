package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"quorumhub/auth"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// authCmd groups the commands for access control.
type authCmd struct {
	NewKey       newKeyCmd       `cmd:"" help:"Generate an API key for auth.file, without a hub: the first operator's key, which creates all others."`
	HashPassword hashPasswordCmd `cmd:"" name:"hash-password" help:"Hash the password of a local account for auth.file, without a hub."`
	NewTOTP      newTOTPCmd      `cmd:"" name:"new-totp" help:"Generate the secret of a local account's one-time codes (TOTP), without a hub."`
	Keys         authKeys        `cmd:"" help:"List, create and revoke API keys of a running hub."`
	Rules        authRules       `cmd:"" help:"List, set and remove access rules of a running hub."`
	Explain      explainCmd      `cmd:"" help:"Explain why an action is, or would be, allowed or refused."`
	WhoAmI       whoAmICmd       `cmd:"" name:"whoami" help:"Show how the hub identifies you."`
	EndOwner     endOwnerCmd     `cmd:"" name:"end-owner" help:"End the sessions of a principal whose credential has ended, such as a revoked certificate, and pause its subscriptions; or end them."`
	Quotas       authQuotas      `cmd:"" help:"List and set what principals may have."`
	Sessions     sessionsCmd     `cmd:"" help:"List who has logged in: all sessions to operators, and to others their own."`
	EndSession   endSessionCmd   `cmd:"" name:"end-session" help:"End sessions, so that whoever has them must log in again."`
	Usage        usageCmd        `cmd:"" help:"Show what principals use and what their quotas allow."`
}

type newKeyCmd struct {
	Name string   `required:"" help:"The owner of the key." placeholder:"NAME"`
	Role []string `help:"A role for access rules to match. Repeatable." placeholder:"ROLE"`
}

func (c *newKeyCmd) Run(s Streams) error {
	text, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		return err
	}
	line, err := yaml.MarshalWithOptions(map[string]any{"api_keys": []auth.APIKeySetting{{ID: id, Name: c.Name, SHA256: hex.EncodeToString(hash), Roles: c.Role}}},
		yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return fmt.Errorf("encode the setting: %w", err)
	}
	_, err = fmt.Fprintf(s.Out, "The key is not shown again; save it now (for QUORUMHUB_TOKEN or --token):\n\n  %s\n\nAdd this to auth.file:\n\n%s", text, line)
	return err
}

type authKeys struct {
	List   listKeysCmd  `cmd:"" default:"withargs" help:"List the API keys (the default)."`
	Create createKeyCmd `cmd:"" help:"Create an API key and print it. The key is shown only once."`
	Revoke revokeKeyCmd `cmd:"" help:"Revoke an API key, effective immediately."`
}

type listKeysCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listKeysCmd) Run(ctx context.Context, s Streams) error {
	now := time.Now()
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/auth/keys", nil, "ID\tNAME\tSCOPES\tROLES\tEXPIRES\tCREATED BY",
		func(k struct {
			ID        string   `json:"id"`
			Name      string   `json:"name"`
			Scopes    []string `json:"scopes"`
			Roles     []string `json:"roles"`
			ExpiresAt string   `json:"expires_at"`
			CreatedBy string   `json:"created_by"`
		}) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", terminal.OneLine(k.ID), terminal.OneLine(k.Name), terminal.OrDash(strings.Join(k.Scopes, " ")), terminal.OrDash(strings.Join(k.Roles, " ")),
				terminal.When(k.ExpiresAt, now), terminal.OrDash(k.CreatedBy))
		})
}

type createKeyCmd struct {
	hubFlags
	Name    string        `required:"" help:"The owner of the key." placeholder:"NAME"`
	Scope   []string      `help:"A scope for access rules to match. Repeatable." placeholder:"SCOPE"`
	Role    []string      `help:"A role for access rules to match. Repeatable." placeholder:"ROLE"`
	Expires *flagDuration `help:"How long the key is valid. Default: until it is revoked." placeholder:"DURATION"`
	JSON    bool          `name:"json" help:"Print JSON."`
}

func (c *createKeyCmd) Run(ctx context.Context, s Streams) error {
	body := map[string]any{"name": c.Name, "scopes": c.Scope, "roles": c.Role}
	if c.Expires != nil {
		body["expires_in"] = time.Duration(*c.Expires).String()
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPost, "/v1/auth/keys", body, func(raw json.RawMessage) (string, error) {
		var made struct{ Key string }
		err := json.Unmarshal(raw, &made)
		return terminal.OneLine(made.Key), err
	}, "key")
}

type revokeKeyCmd struct {
	hubFlags
	ID   string `arg:"" help:"The key's ID: the 12 digits after qhk_."`
	End  bool   `name:"end-subscriptions" help:"End the subscriptions that the key owns at once, instead of pausing them."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *revokeKeyCmd) Run(ctx context.Context, s Streams) error {
	path := "/v1/auth/keys/" + url.PathEscape(c.ID)
	if c.End {
		path += "?end_subscriptions=true"
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodDelete, path, nil, func(raw json.RawMessage) (string, error) {
		var out struct {
			Paused int `json:"subscriptions_paused"`
			Ended  int `json:"subscriptions_ended"`
		}
		err := json.Unmarshal(raw, &out)
		text := c.ID + " revoked"
		switch {
		case out.Ended > 0:
			text += fmt.Sprintf("; %d subscriptions ended", out.Ended)
		case out.Paused > 0:
			text += fmt.Sprintf("; %d subscriptions are paused until they are reassigned (subscriptions reassign --from key/%s)", out.Paused, c.ID)
		}
		return text, err
	}, "id")
}

type authRules struct {
	List   listRulesCmd  `cmd:"" default:"withargs" help:"List the access rules in force (the default)."`
	Set    setRuleCmd    `cmd:"" help:"Add access rules, or replace those with the same names."`
	Remove removeRuleCmd `cmd:"" help:"Remove an access rule."`
}

type listRulesCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listRulesCmd) Run(ctx context.Context, s Streams) error {
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/auth/rules", nil, "NAME\tMAY\tTOPICS\tWHO\tFROM",
		func(r struct {
			auth.Rule
			Source string `json:"source"`
		}) string {
			who := make([]string, len(r.Who))
			for i, w := range r.Who {
				who[i] = w.String()
			}
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", terminal.OneLine(r.Name), terminal.OneLine(strings.Join(r.May, " ")), terminal.OrDash(strings.Join(append(slices.Clone(r.Topics), r.Resources...), " ")),
				terminal.OneLine(strings.Join(who, " | ")), terminal.OneLine(r.Source))
		})
}

type setRuleCmd struct {
	hubFlags
	File string `arg:"" help:"A YAML file in the format of auth.file, of which only rules is used; - for standard input."`
}

func (c *setRuleCmd) Run(ctx context.Context, s Streams) error {
	var text []byte
	var err error
	if c.File == "-" {
		text, err = io.ReadAll(io.LimitReader(s.In, maxInputBytes))
	} else {
		text, err = os.ReadFile(c.File)
	}
	if err != nil {
		return exit.Usagef("%v", err)
	}
	settings, err := auth.ParseSettings(text)
	if err != nil {
		return exit.Usagef("%s: %v", c.File, err)
	}
	if len(settings.Rules) == 0 {
		return exit.Usagef("%s: contains no rules", c.File)
	}
	for _, r := range settings.Rules {
		if err := callHub(ctx, s, &c.hubFlags, false, http.MethodPut, "/v1/auth/rules/"+url.PathEscape(r.Name), r,
			func(json.RawMessage) (string, error) { return r.Name + " set", nil }, "name"); err != nil {
			return fmt.Errorf("rule %s: %w", r.Name, err)
		}
	}
	return nil
}

type removeRuleCmd struct {
	hubFlags
	Name string `arg:"" help:"The rule's name."`
}

func (c *removeRuleCmd) Run(ctx context.Context, s Streams) error {
	return callHub(ctx, s, &c.hubFlags, false, http.MethodDelete, "/v1/auth/rules/"+url.PathEscape(c.Name), nil,
		func(json.RawMessage) (string, error) { return c.Name + " removed", nil })
}

type explainCmd struct {
	hubFlags
	Action    string   `arg:"" optional:"" help:"The action: publish, subscribe, unsubscribe, read, topic.register, topic.deregister or admin.*"`
	Topic     string   `arg:"" optional:"" help:"The topic's name or URL."`
	Principal string   `help:"Ask about this principal, such as issuer:idp/123, for rules that name one." placeholder:"PRINCIPAL"`
	Subject   string   `help:"Ask about this subject instead of yourself." placeholder:"NAME"`
	Method    string   `help:"The subject's authentication method: token, api-key, certificate, signature or geo-auth." default:"token"`
	Issuer    string   `help:"The subject's issuer." placeholder:"NAME"`
	Client    string   `help:"The subject's client." placeholder:"NAME"`
	User      string   `help:"The subject's user name." placeholder:"NAME"`
	Scope     []string `help:"A scope of the subject. Repeatable." placeholder:"SCOPE"`
	Role      []string `help:"A role of the subject. Repeatable." placeholder:"ROLE"`
	Provider  string   `name:"service-provider" help:"Ask what the sequence of this service provider makes of your credentials, step by step, instead of an action." placeholder:"NAME"`
	Request   string   `help:"With --service-provider: a file with an HTTP request whose credentials are in question; - for standard input." placeholder:"FILE"`
	Browser   bool     `help:"With --service-provider: as if a person were there."`
	JSON      bool     `name:"json" help:"Print JSON."`
}

func (c *explainCmd) Run(ctx context.Context, s Streams) error {
	switch {
	case (c.Action == "") == (c.Provider == ""):
		return exit.Usagef("expected an action, such as publish, or --service-provider")
	case c.Provider != "":
		return c.sequence(ctx, s)
	case c.Request != "" || c.Browser:
		return exit.Usagef("--request and --browser are for --service-provider")
	}
	body := map[string]any{"action": c.Action, "topic": c.Topic}
	if c.Principal != "" || c.Subject != "" || c.Issuer != "" || c.Client != "" || c.User != "" || len(c.Scope)+len(c.Role) > 0 {
		body["principal"] = map[string]any{"method": c.Method, "principal": c.Principal, "subject": c.Subject, "issuer": c.Issuer, "client": c.Client, "user": c.User,
			"scopes": c.Scope, "roles": c.Role}
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPost, "/v1/auth/explain", body, func(raw json.RawMessage) (string, error) {
		var out struct {
			Allowed bool
			Reason  string
		}
		err := json.Unmarshal(raw, &out)
		verdict := "refused: "
		if out.Allowed {
			verdict = ""
		}
		return terminal.OneLine(verdict + out.Reason), err
	}, "allowed")
}

type whoAmICmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *whoAmICmd) Run(ctx context.Context, s Streams) error {
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodGet, "/v1/auth/whoami", nil, func(raw json.RawMessage) (string, error) {
		var p struct {
			Method, Principal, Issuer, Subject, Client, User string
			Scopes, Roles                                    []string
		}
		err := json.Unmarshal(raw, &p)
		var b strings.Builder
		for _, part := range [][2]string{{"method", p.Method}, {"principal", p.Principal}, {"issuer", p.Issuer}, {"subject", p.Subject}, {"client", p.Client}, {"user", p.User},
			{"scopes", strings.Join(p.Scopes, " ")}, {"roles", strings.Join(p.Roles, " ")}} {
			if part[1] != "" {
				fmt.Fprintf(&b, "%-9s %s\n", part[0], terminal.OneLine(part[1]))
			}
		}
		return strings.TrimSuffix(b.String(), "\n"), err
	}, "method")
}
