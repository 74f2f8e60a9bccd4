package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
	"quorumhub/cli/ticket"
)

// What a hub calls this program, and where it gets its tokens (RFC 8628).
const (
	terminalClient = "quorumhub-terminal"
	devicePath     = "/v1/auth/device"
	tokenPath      = "/oidc/token"
	revokePath     = "/oidc/revoke"
	deviceGrant    = "urn:ietf:params:oauth:grant-type:device_code"
)

type loginCmd struct {
	hubFlags
	IDP string `name:"idp" help:"The identity provider to log in with, by its name in the hub's auth.file." placeholder:"NAME"`
}

func (c *loginCmd) Run(ctx context.Context, s Streams) error {
	if c.Token != "" {
		return exit.Usagef("--token: is given (perhaps as QUORUMHUB_TOKEN), and would be used instead of the login; expected none")
	}
	store, err := ticket.Default()
	if err != nil {
		return exit.Usagef("login: %v", err)
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	host, _ := os.Hostname() // only for people
	var waits struct {
		Device   string `json:"device_code"`
		Code     string `json:"user_code"`
		Page     string `json:"verification_uri"`
		Complete string `json:"verification_uri_complete"`
		For      int    `json:"expires_in"`
		Every    int    `json:"interval"`
	}
	if err := hub.Unproven(ctx, devicePath, url.Values{"client_id": {terminalClient}, "host": {host}, "idp": {c.IDP}}, &waits); err != nil {
		return err
	}
	if waits.Device == "" || waits.Code == "" || waits.Page == "" {
		return hub.Unexpected(devicePath, errors.New("it is no answer of a quorumhub"))
	}
	fmt.Fprintf(s.Err, "Open %s\nin a browser, log in, and allow the code %s. Or type the code at %s.\n",
		terminal.OneLine(cmp.Or(waits.Complete, waits.Page)), terminal.OneLine(waits.Code), terminal.OneLine(waits.Page))
	t := &ticket.Ticket{Hubs: hub.Bases()}
	if err := await(ctx, hub, t, waits.Device, time.Duration(waits.Every)*time.Second, time.Duration(waits.For)*time.Second); err != nil {
		return err
	}
	if was, err := store.Find(t.Hubs); err == nil && was != nil {
		_ = revoke(ctx, hub, was) // its session ends anyway in time
		if err := store.Remove(was); err != nil {
			return err
		}
	}
	if err := store.Save(t); err != nil {
		return err
	}
	return (&whoAmICmd{hubFlags: c.hubFlags}).Run(ctx, s)
}

// await asks for the tokens until somebody has decided.
func await(ctx context.Context, hub *client.Client, t *ticket.Ticket, device string, every, patience time.Duration) error {
	every = max(every, time.Second)
	end := time.Now().Add(patience)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
		err := tokens(ctx, hub, t, url.Values{"grant_type": {deviceGrant}, "device_code": {device}, "client_id": {terminalClient}})
		var refused *client.TokenError
		switch errors.As(err, &refused); {
		case err == nil:
			return nil
		case refused == nil && exit.CodeOf(err) == exit.Unreachable && time.Now().Before(end):
			// A node that is away for a moment has not decided anything.
		case refused == nil:
			return err
		case refused.Code == "slow_down":
			every += 5 * time.Second // RFC 8628 section 3.5
		case refused.Code == "access_denied":
			return exit.With(exit.Refused, errors.New("the login was denied in the browser"))
		case refused.Code == "expired_token" || !time.Now().Before(end):
			return exit.With(exit.Timeout, errors.New("nobody has allowed the login in time; run quorumhub login again"))
		case refused.Code != "authorization_pending":
			return err
		}
	}
}

// tokens gets tokens and puts them into the ticket.
func tokens(ctx context.Context, hub *client.Client, t *ticket.Ticket, form url.Values) error {
	var got struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		In      int64  `json:"expires_in"`
	}
	if err := hub.Unproven(ctx, tokenPath, form, &got); err != nil {
		return err
	}
	if got.Access == "" || got.Refresh == "" || got.In <= 0 {
		return hub.Unexpected(tokenPath, errors.New("it has no tokens"))
	}
	t.Access, t.Refresh, t.Expires = got.Access, got.Refresh, time.Now().Add(time.Duration(got.In)*time.Second)
	return nil
}

// renewed returns what gets an access token of the login at a hub, renewed if need be.
func renewed(hub *client.Client) func(context.Context) (string, error) {
	store, err := ticket.Default()
	if err != nil {
		return nil // whoever has no configuration directory has no login either
	}
	return func(ctx context.Context) (string, error) {
		return store.Access(ctx, hub.Bases(), func(ctx context.Context, t *ticket.Ticket) error {
			err := tokens(ctx, hub, t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}, "client_id": {terminalClient}})
			var refused *client.TokenError
			if errors.As(err, &refused) && refused.Code == "invalid_grant" {
				return ticket.ErrEnded
			}
			return err
		})
	}
}

type logoutCmd struct {
	hubFlags
}

func (c *logoutCmd) Run(ctx context.Context, s Streams) error {
	store, err := ticket.Default()
	if err != nil {
		return exit.Usagef("logout: %v", err)
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	t, err := store.Find(hub.Bases())
	switch {
	case t == nil && err != nil:
		return err
	case t == nil:
		return exit.Usagef("--hub: there is no login at %s", hub.Base())
	}
	// What others can read is ended, too, although it is not used any more.
	if err := revoke(ctx, hub, t); err != nil {
		return fmt.Errorf("the login is kept, because the hub could not be told: %w", err)
	}
	if err := store.Remove(t); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, "logged out of "+terminal.OneLine(t.Hubs[0]))
	return err
}

// revoke ends a login on the hub.
func revoke(ctx context.Context, hub *client.Client, t *ticket.Ticket) error {
	return hub.Unproven(ctx, revokePath, url.Values{"token": {t.Refresh}, "client_id": {terminalClient}}, new(json.RawMessage))
}
