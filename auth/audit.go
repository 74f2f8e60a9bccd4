package auth

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
)

// Audit selects which decisions are logged.
type Audit string

// Levels of auditing. Both include refusals.
const (
	AuditAll     Audit = "all"     // every change, publishing included
	AuditControl Audit = "control" // every change but publishing
)

// Limits on the audit lines of one request.
const (
	maxActs  = 128
	maxNotes = 16
)

// Trail collects what one request asks for, until its outcome is known and the audit lines are written. The zero value is empty.
type Trail struct {
	mu    sync.Mutex
	acts  []act
	notes []any // slog.Attr
}

// act is a decision on one action.
type act struct {
	action   Action
	topic    string
	decision Decision
}

// add keeps a decision. It reports whether there was room.
func (t *Trail) add(a act) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.acts) >= maxActs {
		return false
	}
	t.acts = append(t.acts, a)
	return true
}

// Note adds what a request is about, such as the ID of a key it creates, to its audit lines. Notes must hold no secrets.
func Note(ctx context.Context, name, value string) {
	t := CallerOf(ctx).Trail
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.notes) < maxNotes {
		t.notes = append(t.notes, slog.String(name, clip(value)))
	}
}

// NoteURL is Note for a URL, whose query and credentials may be secret.
func NoteURL(ctx context.Context, name, raw string) {
	if CallerOf(ctx).Trail == nil {
		return
	}
	Note(ctx, name, PublicURL(raw))
}

// PublicURL returns a URL without what may be secret in it: query, fragment and credentials.
func PublicURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return u.String()
}

// Outcomes of an audited action.
const (
	outcomeDone    = "done"
	outcomeFailed  = "failed" // allowed, but it did not happen
	outcomeDenied  = "denied"
	outcomeAllowed = "allowed" // what became of it is not known yet
)

// Report writes the audit lines of a request that was answered with an HTTP status.
func (g *Guard) Report(ctx context.Context, c *Caller, status int) {
	t := c.Trail
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	outcome := outcomeDone
	if status == 0 || status >= 400 {
		outcome = outcomeFailed
	}
	for i := range t.acts {
		g.line(ctx, c, &t.acts[i], t.notes, outcome, status)
	}
	t.acts, t.notes = nil, nil
}

func (g *Guard) line(ctx context.Context, c *Caller, a *act, notes []any, outcome string, status int) {
	if !a.decision.Allowed {
		outcome = outcomeDenied
	}
	object := make([]any, 0, len(notes)+1)
	if a.topic != "" {
		object = append(object, slog.String("topic", clip(a.topic)))
	}
	actor := c.Principal.ID
	if c.Principal.Method == MethodAnonymous {
		actor = string(MethodAnonymous)
	}
	attrs := []slog.Attr{slog.String("actor", actor), slog.String("name", clip(c.Principal.Subject)), slog.String("action", string(a.action)),
		slog.Group("object", append(object, notes...)...), slog.String("outcome", outcome), slog.String("reason", a.decision.Reason()),
		slog.String("correlation_id", c.CorrelationID), slog.String("address", c.Address), slog.String("node", g.node)}
	if status != 0 {
		attrs = append(attrs, slog.Int("status", status))
	}
	g.log.LogAttrs(ctx, slog.LevelInfo, "audit", attrs...)
}

// Entered audits that a caller has logged in or out, with names and values about it.
func (g *Guard) Entered(ctx context.Context, c *Caller, action string, notes ...string) {
	object := make([]any, 0, len(notes)/2)
	for i := 0; i+1 < len(notes); i += 2 {
		object = append(object, slog.String(notes[i], clip(notes[i+1])))
	}
	g.log.LogAttrs(ctx, slog.LevelInfo, "audit", slog.String("actor", c.Principal.ID), slog.String("name", clip(c.Principal.Subject)), slog.String("action", action),
		slog.Group("object", object...), slog.String("outcome", outcomeDone), slog.String("correlation_id", c.CorrelationID), slog.String("address", c.Address),
		slog.String("node", g.node))
}
