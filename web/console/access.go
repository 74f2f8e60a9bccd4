package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// AccessPorts is what the pages about access need of the server. What a viewer may not see is not in what they return.
type AccessPorts interface {
	APIKeys(ctx context.Context) []hub.APIKey
	// CreateAPIKey makes a key that ends after a duration such as 720h; empty: never. Its text is returned this once.
	CreateAPIKey(ctx context.Context, k hub.APIKey, expiresIn string) (hub.APIKey, string, error)
	// RevokeAPIKey revokes a key, and pauses or ends the subscriptions that it owns, whose number it returns.
	RevokeAPIKey(ctx context.Context, id string, end bool) (int, error)
	AccessRules() []view.AccessRule
	// SetRule adds a rule in YAML or JSON, or replaces the one of the same name.
	SetRule(ctx context.Context, text string) (name string, err error)
	RemoveRule(ctx context.Context, name string) error
	// LoginSessions returns at most limit sessions after one; next is zero if there are no more.
	LoginSessions(ctx context.Context, principal, authenticator string, after hub.SessionID, limit int) (found []hub.Session, next hub.SessionID, err error)
	EndLogin(ctx context.Context, id string) error
	// Usages returns what at most limit principals after one have; next is empty if there are no more.
	Usages(ctx context.Context, principal, after string, limit int) (found []view.Usage, next string, err error)
	QuotaEntries() []auth.QuotaEntry
	// Explain says what the rules decide about an action of a principal; nil: the viewer.
	Explain(ctx context.Context, p *auth.Principal, action auth.Action, topic string) (Explained, error)
}

// Explained is a decision of the rules.
type Explained struct {
	Allowed             bool
	Principal           string
	Reason, Rule, Topic string
	Missing             []string
}

// accessTabs are the pages about access, each for whom the API shows the same.
type accessTabs struct {
	Tab  string
	Auth bool // the viewer may see and change what is about everybody
	// Changes says that something may be changed: not on a hub that asks for no credentials.
	Changes bool
}

func (c *Console) accessTabs(ctx context.Context, tab string) accessTabs {
	v, may := c.viewer(ctx), c.Ports.May(ctx, auth.ActionAuth)
	return accessTabs{Tab: tab, Auth: may, Changes: may && v.Name != ""}
}

func accessCrumbs() []crumb { return []crumb{{"/access", "Access"}} }

type keyRow struct {
	hub.APIKey
	Badge         badge
	Subscriptions int
}

type keysData struct {
	accessTabs
	Rows  []keyRow
	Pager pager
	Mine  bool // the viewer may revoke what is listed
}

// Keys lists the API keys.
func (c *Console) Keys(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"name"})
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.show(w, r, sheet{template: "keys", section: "access", build: func(ctx context.Context) (*content, error) {
		d := keysData{accessTabs: c.accessTabs(ctx, "keys"), Mine: c.viewer(ctx).Name != ""}
		keys := c.Ports.APIKeys(ctx)
		slices.SortFunc(keys, func(a, b hub.APIKey) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
		if l.Desc {
			slices.Reverse(keys)
		}
		from, to := l.bounds(len(keys))
		for _, k := range keys[from:to] {
			row := keyRow{APIKey: k, Badge: badge{stateGood, "valid"}, Subscriptions: c.subscriptionsOf(k.ID)}
			if !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(c.now()) {
				row.Badge = badge{stateIdle, "expired"}
			}
			d.Rows = append(d.Rows, row)
		}
		d.Pager = l.pagerOf(len(d.Rows), len(keys))
		return &content{Title: "Access", Lead: "API keys. Their text is shown once, when they are made; those of auth.file are only there.", Data: d}, nil
	}})
}

// subscriptionsOf returns how many subscriptions a key owns.
func (c *Console) subscriptionsOf(key string) (n int) {
	c.State.View(func(st *hub.State) { n = st.Usage(hub.KeyPrincipal(key)).Subscriptions })
	return n
}

// CreateKey makes a key and shows it, once.
func (c *Console) CreateKey(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	get := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	k, text, err := c.Ports.CreateAPIKey(r.Context(), hub.APIKey{Name: get("name"), Scopes: strings.Fields(get("scopes")), Roles: strings.Fields(get("roles"))}, get("expires_in"))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	data := struct {
		Key  hub.APIKey
		Text string
	}{k, text}
	c.write(w, r, http.StatusCreated, "newkey", c.frame(r, "access", &content{Title: "The key is made", Crumbs: accessCrumbs(),
		Lead: "Copy it now: the hub keeps only its hash, and nobody can be shown it again.", Data: data}))
}

// RevokeKey revokes a key, once that is confirmed.
func (c *Console) RevokeKey(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	id := idInPath(r, "/access/keys/")
	keys := c.Ports.APIKeys(r.Context())
	at := slices.IndexFunc(keys, func(k hub.APIKey) bool { return k.ID == id })
	if at < 0 {
		c.fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id", Detail: problem.Quote(id) + " is no API key, or it has been revoked"})
		return
	}
	end := r.PostForm.Get("end") != ""
	lead := countOf(c.subscriptionsOf(id), "subscription that it owns is paused.", "subscriptions that it owns are paused.")
	if end {
		lead = countOf(c.subscriptionsOf(id), "subscription that it owns ends.", "subscriptions that it owns end.")
	}
	if !c.confirmed(w, r, "access", confirm{Title: "Revoke the key " + keys[at].Name, Name: id, Danger: true, Back: "/access", Button: "Revoke it",
		Lead: "Whoever uses it is refused from now on. " + lead}) {
		return
	}
	n, err := c.Ports.RevokeAPIKey(r.Context(), id, end)
	done := countOf(n, "subscription is paused.", "subscriptions are paused.")
	if end {
		done = countOf(n, "subscription has ended.", "subscriptions have ended.")
	}
	c.finish(w, r, err, "/access", "The key "+keys[at].Name+" is revoked. "+done)
}

type ruleRow struct {
	view.AccessRule
	Who  []string
	File bool
}

type rulesData struct {
	accessTabs
	Rows []ruleRow
}

// Rules lists the access rules.
func (c *Console) Rules(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, sheet{template: "rules", section: "access", build: func(ctx context.Context) (*content, error) {
		d := rulesData{accessTabs: c.accessTabs(ctx, "rules")}
		for _, rule := range c.Ports.AccessRules() {
			row := ruleRow{AccessRule: rule, File: rule.Source == "file"}
			for i := range rule.Who {
				row.Who = append(row.Who, rule.Who[i].String())
			}
			d.Rows = append(d.Rows, row)
		}
		return &content{Title: "Access rules", Crumbs: accessCrumbs(), Lead: "What nothing here allows is refused. No rule takes away what another one gives.", Data: d}, nil
	}})
}

// SetRule adds or replaces a rule.
func (c *Console) SetRule(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	name, err := c.Ports.SetRule(r.Context(), strings.ReplaceAll(r.PostForm.Get("rule"), "\r\n", "\n"))
	c.finish(w, r, err, "/access/rules", "The rule "+name+" is in force on every node.")
}

// RemoveRule removes a rule, once that is confirmed.
func (c *Console) RemoveRule(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	name := r.PostForm.Get("name")
	if !c.confirmed(w, r, "access", confirm{Title: "Remove the rule " + name, Name: name, Danger: true, Back: "/access/rules", Button: "Remove it",
		Lead: "What only it allows is refused from now on, and subscriptions that no other rule allows are paused."}) {
		return
	}
	c.finish(w, r, c.Ports.RemoveRule(r.Context(), name), "/access/rules", "The rule "+name+" is removed.")
}

type sessionRow struct {
	hub.Session
	Number string
	Passed string
}

type sessionsData struct {
	accessTabs
	List *listing
	Rows []sessionRow
	Next string
	Mine bool
}

// Sessions lists who has logged in.
func (c *Console) Sessions(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"id"}, "principal", "authenticator", "after")
	var after hub.SessionID
	if err == nil && l.Filter("after") != "" {
		raw, derr := hex.DecodeString(l.Filter("after"))
		if derr != nil || len(raw) != len(after) {
			err = hub.ParamErrorf("after", "is %s; expected that of the link to a next page", problem.Quote(l.Filter("after")))
		}
		copy(after[:], raw)
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.show(w, r, sheet{template: "sessions", section: "access", build: func(ctx context.Context) (*content, error) {
		found, next, err := c.Ports.LoginSessions(ctx, l.Filter("principal"), l.Filter("authenticator"), after, perPage)
		if err != nil {
			return nil, err
		}
		d := sessionsData{accessTabs: c.accessTabs(ctx, "sessions"), List: l, Mine: c.viewer(ctx).Name != ""}
		if next != (hub.SessionID{}) {
			d.Next = l.url("after", hex.EncodeToString(next[:]))
		}
		for i := range found {
			row := sessionRow{Session: found[i], Number: found[i].ID.String()}
			var passed []string
			for _, p := range found[i].Passed {
				passed = append(passed, p.Authenticator)
			}
			row.Passed = strings.Join(passed, ", then ")
			d.Rows = append(d.Rows, row)
		}
		return &content{Title: "Sessions", Crumbs: accessCrumbs(), Lead: "Who has logged in, in which browser, and until when.", Data: d}, nil
	}})
}

// EndLogin ends a session, once that is confirmed.
func (c *Console) EndLogin(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	id := idInPath(r, "/access/sessions/")
	if !c.confirmed(w, r, "access", confirm{Title: "End session " + id, Back: "/access/sessions", Button: "End it", Danger: true,
		Lead: "Its browser has to log in again. What the person owns stays as it is."}) {
		return
	}
	c.finish(w, r, c.Ports.EndLogin(r.Context(), id), "/access/sessions", "The session "+id+" has ended.")
}

// quotaCell is a number with its quota.
type quotaCell struct {
	Name, Text string
	Badge      *badge // if the quota is reached, or nearly
}

func quotaCellOf(name string, u view.Used, text func(int64) string) quotaCell {
	cell := quotaCell{Name: name, Text: text(u.Used)}
	if u.Limit > 0 {
		cell.Text += " of " + text(u.Limit)
		switch {
		case u.Used >= u.Limit:
			cell.Badge = &badge{stateBad, "reached"}
		case u.Used >= u.Limit-u.Limit/10:
			cell.Badge = &badge{stateWarn, "nearly reached"}
		}
	}
	return cell
}

type usageRow struct {
	Principal string
	Cells     []quotaCell
}

type quotaRow struct {
	auth.QuotaEntry
	Text string
}

type usageData struct {
	accessTabs
	List   *listing
	Rows   []usageRow
	Next   string
	Quotas []quotaRow
}

// Principals lists what principals have, and what the quotas allow them.
func (c *Console) Principals(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"principal"}, "principal", "after")
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.show(w, r, sheet{template: "principals", section: "access", build: func(ctx context.Context) (*content, error) {
		found, next, err := c.Ports.Usages(ctx, l.Filter("principal"), l.Filter("after"), perPage)
		if err != nil {
			return nil, err
		}
		d := usageData{accessTabs: c.accessTabs(ctx, "principals"), List: l}
		if next != "" {
			d.Next = l.url("after", next)
		}
		for i := range found {
			d.Rows = append(d.Rows, usageRowOf(&found[i]))
		}
		if d.Auth {
			for _, e := range c.Ports.QuotaEntries() {
				text, err := json.Marshal(e.InForce)
				if err != nil {
					return nil, err
				}
				d.Quotas = append(d.Quotas, quotaRow{e, strings.NewReplacer(`"`, "", ":", " ", ",", ", ", "{", "", "}", "").Replace(string(text))})
			}
		}
		return &content{Title: "Principals", Crumbs: accessCrumbs(), Lead: "What each principal has, and how much of it the quotas allow. Streams are those of this node.", Data: d}, nil
	}})
}

func usageRowOf(u *view.Usage) usageRow {
	number := func(n int64) string { return count(n) }
	size := func(n int64) string {
		text, _ := bytesText(n) // a number always has one
		return text
	}
	return usageRow{u.Principal, []quotaCell{
		quotaCellOf("Topics", u.Topics, number), quotaCellOf("Subscriptions", u.Subscriptions, number), quotaCellOf("Requests", u.PendingRequests, number),
		quotaCellOf("API keys", u.APIKeys, number), quotaCellOf("Idempotency keys", u.IdempotencyKeys, number), quotaCellOf("Nonces/min", u.Nonces, number),
		quotaCellOf("Streams", u.Node.Streams, number), quotaCellOf("Stored", u.StoredBytes, size), quotaCellOf("Dead letters", u.DeadLetterBytes, size)}}
}

// Explain answers what the rules decide.
func (c *Console) Explain(w http.ResponseWriter, r *http.Request) {
	type explainData struct {
		accessTabs
		Actions []string
		Asked   map[string]string
		Answer  *Explained
		Badge   badge
	}
	d := explainData{accessTabs: c.accessTabs(r.Context(), "explain"), Asked: map[string]string{}, Actions: strings.Split(auth.ActionNames(), ", ")}
	if r.Method == http.MethodPost {
		if !c.readForm(w, r) {
			return
		}
		var p *auth.Principal
		for _, name := range []string{"action", "topic", "method", "principal", "issuer", "subject", "scopes", "roles"} {
			if d.Asked[name] = strings.TrimSpace(r.PostForm.Get(name)); d.Asked[name] != "" && name != "action" && name != "topic" {
				p = &auth.Principal{}
			}
		}
		if p != nil {
			*p = auth.Principal{Method: auth.Method(d.Asked["method"]), ID: d.Asked["principal"], Authority: d.Asked["issuer"], Subject: d.Asked["subject"],
				Scopes: strings.Fields(d.Asked["scopes"]), Roles: strings.Fields(d.Asked["roles"])}
		}
		answer, err := c.Ports.Explain(r.Context(), p, auth.Action(d.Asked["action"]), d.Asked["topic"])
		if err != nil {
			c.fail(w, r, err)
			return
		}
		d.Answer, d.Badge = &answer, badge{stateBad, "refused"}
		if answer.Allowed {
			d.Badge = badge{stateGood, "allowed"}
		}
	}
	c.write(w, r, http.StatusOK, "explain", c.frame(r, "access", &content{Title: "Who may do what", Crumbs: accessCrumbs(),
		Lead: "Ask what the rules decide, and why. Nothing is done.", Data: d}))
}
