package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/token"
	"quorumhub/web/problem"
)

// TokenOptions are what tokens for the services behind need.
type TokenOptions struct {
	Issuer string // the hub's public URL
	Keys   token.Keys
	// Newest reads the topics that list accounts.
	Newest token.Newest
}

const codeNoAccount = "no_account"

// minted is how tokens for an upstream are made.
type minted struct {
	of       registry.Upstream
	grant    token.Grant
	accounts token.Accounts
	close    func() // nil: nothing to close
}

// mintedFor returns how tokens for an upstream are made; nil: it gets none. What is remembered of accounts stays if nothing about the
// upstream has changed.
func (g *Gateway) mintedFor(reg *registry.Registry, u registry.Upstream, before *compiled) (*minted, error) {
	t := u.Token
	switch {
	case t == nil:
		return nil, nil //nolint:nilnil // nil means none
	case g.Tokens == nil:
		return nil, errors.New("this node has no keys for tokens")
	}
	m := &minted{of: u, grant: token.Grant{Audience: t.Audience, TTL: t.TTL, Claims: t.Claims}}
	name, topic := strings.CutPrefix(t.Accounts, "topic:")
	if file, ok := reg.Files[t.Accounts]; ok && t.Accounts != "" {
		list, err := token.ParseList(file)
		m.accounts = list
		return m, err
	}
	if before != nil {
		if was := before.minted[u.Name]; was != nil && reflect.DeepEqual(was.of, u) {
			return was, nil
		}
	}
	switch {
	case t.Accounts == "":
		m.accounts = token.Everybody{}
	case topic:
		m.accounts = token.NewTopic(name, g.Tokens.Newest)
	default:
		transport, err := g.Transports(registry.Upstream{Name: u.Name, URLs: []string{originOf(t.Accounts)}})
		if err != nil {
			return nil, fmt.Errorf("accounts: %w", err)
		}
		remote, err := token.NewRemote(t.Accounts, transport, g.Clock)
		if err != nil {
			return nil, fmt.Errorf("accounts: %w", err)
		}
		m.accounts, m.close = remote, remote.Close
	}
	return m, nil
}

// originOf returns the scheme and the host of a URL.
func originOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return u.Scheme + "://" + u.Host
}

// closeMinted closes what another registry does not use.
func (c *compiled) closeMinted(but *compiled) {
	for name, m := range c.minted {
		if m.close != nil && (but == nil || but.minted[name] != m) {
			m.close()
		}
	}
}

// tokenStage gives the service behind a token for the caller, if the caller has an account there.
type tokenStage struct{}

func (tokenStage) name() string { return "token" }
func (tokenStage) explain(v *version) string {
	if v.minted == nil {
		return ""
	}
	t := v.minted.of.Token
	text := fmt.Sprintf("the service gets a token for %s, valid for %v", t.Audience, t.TTL)
	if t.Accounts != "" {
		text += ", if the caller has an account in " + t.Accounts
	}
	return text
}

func (tokenStage) do(x *exchange) error {
	m := x.version.minted
	if m == nil {
		return nil
	}
	if x.caller.Anonymous || x.caller.ID == "" {
		return noAccount()
	}
	who := token.Caller{ID: x.caller.ID, Issuer: x.caller.Issuer, Subject: x.caller.Subject, Method: x.caller.Method}
	if geo := x.caller.Geo; geo != nil {
		who.Username, who.SourceSystem, who.TargetSystem = geo.Username, geo.SourceSystem, geo.TargetSystem
	}
	if x.dry && m.close != nil {
		return nil // somebody else would have to be asked
	}
	account, err := m.accounts.Of(x.ctx(), &who)
	switch {
	case errors.Is(err, token.ErrNoAccount):
		return noAccount()
	case err != nil && x.ctx().Err() != nil:
		return x.ctx().Err()
	case err != nil:
		x.g.Log.Warn("cannot tell whether a caller has an account", slog.String("service", x.version.service.Name), slog.String("upstream", x.version.Target.Name),
			slog.Any("error", err), slog.String("correlation_id", x.correlation))
		return unavailable("whether the caller has an account at the service cannot be found out now")
	}
	minter := token.Minter{Issuer: x.g.Tokens.Issuer, Keys: x.g.Tokens.Keys, Clock: x.g.Clock}
	text, err := minter.Mint(&m.grant, &who, account)
	if err != nil {
		return err
	}
	x.out.header["Authorization"] = []string{"Bearer " + text}
	return nil
}

func noAccount() *problem.Details {
	return fault(http.StatusForbidden, codeNoAccount, "the caller has no account at the service behind this route")
}

// TokenKeys returns the public keys of tokens as a JWK Set (RFC 7517); ok is false if the gateway mints none.
func (g *Gateway) TokenKeys() (set []byte, ok bool, err error) {
	if g.Tokens == nil {
		return nil, false, nil
	}
	set, err = (&token.Minter{Keys: g.Tokens.Keys}).Set()
	return set, true, err
}
