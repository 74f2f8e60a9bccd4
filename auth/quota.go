package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"quorumhub/configs/quantity"
	"quorumhub/hub"
)

// Quotas limit what one principal may have. 0: no limit.
type Quotas struct {
	hub.Quotas
	Streams int // open on one node
}

// defaultStreams is how many event streams a principal may have open on one node.
const defaultStreams = 200

// HubLimits are the hub's own limits, of which quotas of bytes may be a share. 0: no limit.
type HubLimits struct {
	StoredBytes     int64
	DeadLetterBytes int64
}

// Limit is one quota: a number, and for bytes also a size such as 10GiB or a share of the hub's limit such as 10%. 0 is
// no limit.
type Limit struct {
	n       int64
	percent int64 // of the hub's limit, 0: n counts
}

// parseLimit parses the text of a limit.
func parseLimit(text string) (Limit, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseInt(percent, 10, 64)
		if err != nil || n < 1 || n > 100 {
			return Limit{}, fmt.Errorf("%q; expected a share of the hub's limit from 1%% to 100%%", clip(text))
		}
		return Limit{percent: n}, nil
	}
	n, err := quantity.ParseBytes(text)
	if err != nil {
		return Limit{}, fmt.Errorf("%q; expected a number from 0 (no limit), or for bytes a size such as 10GiB or a share such as 10%%", clip(text))
	}
	return Limit{n: n}, nil
}

// String returns the limit as it may be written.
func (l Limit) String() string {
	if l.percent > 0 {
		return strconv.FormatInt(l.percent, 10) + "%"
	}
	return strconv.FormatInt(l.n, 10)
}

// Text returns the limit of a quota for people: sizes have units.
func (l Limit) Text(quota string) string {
	if l.percent == 0 && slices.Index(QuotaNames(), quota) >= firstOfBytes {
		return quantity.FormatBytes(l.n)
	}
	return l.String()
}

// of returns the limit as a number.
func (l Limit) of(hubs int64) int64 {
	if l.percent == 0 {
		return l.n
	}
	if hubs == 0 {
		return 0
	}
	return max(hubs/100*l.percent+hubs%100*l.percent/100, 1)
}

// UnmarshalYAML implements goccy/go-yaml's BytesUnmarshaler.
func (l *Limit) UnmarshalYAML(text []byte) (err error) {
	*l, err = parseLimit(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	return err
}

// UnmarshalJSON accepts a number or a text.
func (l *Limit) UnmarshalJSON(text []byte) (err error) {
	*l, err = parseLimit(strings.Trim(string(text), `"`))
	return err
}

// MarshalJSON returns a number, or a text for a share.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l.percent > 0 {
		return json.Marshal(l.String())
	}
	return []byte(l.String()), nil
}

// QuotaSetting is an entry of quotas: of a principal, a role, or everybody. What it leaves out is as by default.
type QuotaSetting struct {
	Topics          *Limit `yaml:"topics" json:"topics,omitempty"`
	Subscriptions   *Limit `yaml:"subscriptions" json:"subscriptions,omitempty"`
	PendingRequests *Limit `yaml:"pending_requests" json:"pending_requests,omitempty"`
	IdempotencyKeys *Limit `yaml:"idempotency_keys" json:"idempotency_keys,omitempty"`
	APIKeys         *Limit `yaml:"api_keys" json:"api_keys,omitempty"`
	NoncesPerMinute *Limit `yaml:"nonces_per_minute" json:"nonces_per_minute,omitempty"`
	Streams         *Limit `yaml:"streams" json:"streams,omitempty"`
	StoredBytes     *Limit `yaml:"stored_bytes" json:"stored_bytes,omitempty"`
	DeadLetterBytes *Limit `yaml:"dead_letter_bytes" json:"dead_letter_bytes,omitempty"`
}

// DefaultQuotas is the name of the entry for everybody.
const DefaultQuotas = "default"

// The quotas by number. Those of bytes come last.
const (
	firstOfBytes = 7
	storedBytes  = 7
	letterBytes  = 8
	countQuotas  = 9
)

// QuotaNames returns the names of the quotas, as entries spell them.
func QuotaNames() []string {
	return []string{"topics", "subscriptions", "pending_requests", "idempotency_keys", "api_keys", "nonces_per_minute", "streams", "stored_bytes", "dead_letter_bytes"}
}

// limits returns the entry's limits in the order of QuotaNames.
func (s *QuotaSetting) limits() [countQuotas]*Limit {
	return [countQuotas]*Limit{s.Topics, s.Subscriptions, s.PendingRequests, s.IdempotencyKeys, s.APIKeys, s.NoncesPerMinute, s.Streams, s.StoredBytes, s.DeadLetterBytes}
}

// settingOf is the inverse of limits.
func settingOf(l *[countQuotas]*Limit) QuotaSetting {
	return QuotaSetting{l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7], l[8]}
}

// Set sets one quota by its name. A nil limit removes it.
func (s *QuotaSetting) Set(name string, l *Limit) error {
	i := slices.Index(QuotaNames(), name)
	if i < 0 {
		return fmt.Errorf("quota %q is unknown; expected %s", clip(name), strings.Join(QuotaNames(), ", "))
	}
	all := s.limits()
	all[i] = l
	*s = settingOf(&all)
	return s.check()
}

// Get returns one quota by its name, nil if the entry leaves it out.
func (s *QuotaSetting) Get(name string) *Limit {
	if i := slices.Index(QuotaNames(), name); i >= 0 {
		return s.limits()[i]
	}
	return nil
}

// SetText is Set with the text of a limit.
func (s *QuotaSetting) SetText(name, text string) error {
	l, err := parseLimit(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return s.Set(name, &l)
}

// Empty reports whether the entry sets nothing.
func (s *QuotaSetting) Empty() bool { return *s == QuotaSetting{} }

// Over returns the entry, completed by another one.
func (s *QuotaSetting) Over(base *QuotaSetting) QuotaSetting {
	all, below := s.limits(), base.limits()
	for i := range all {
		all[i] = cmp.Or(all[i], below[i])
	}
	return settingOf(&all)
}

func (s *QuotaSetting) check() error {
	for i, l := range s.limits() {
		most := int64(1 << 30)
		if i >= firstOfBytes {
			most = 1 << 60
		}
		switch {
		case l == nil:
		case l.percent > 0 && i < firstOfBytes:
			return fmt.Errorf("%s: %s; expected a number from 0 (no limit) to %d; only quotas of bytes may be a share of the hub's limit", QuotaNames()[i], l, most)
		case l.n < 0 || l.n > most:
			return fmt.Errorf("%s: %d; expected a number from 0 (no limit) to %d", QuotaNames()[i], l.n, most)
		}
	}
	return nil
}

// checkQuotas checks the quotas: default, principals (with a slash) and roles.
func (s *Settings) checkQuotas() error {
	for name, entry := range s.Quotas {
		if err := s.checkQuotaName(name); err != nil {
			return err
		}
		if err := entry.check(); err != nil {
			return fmt.Errorf("%s.%w", name, err)
		}
	}
	return nil
}

// maxQuotaName is the longest name of an entry in bytes.
const maxQuotaName = MaxIDBytes

func (s *Settings) checkQuotaName(name string) error {
	switch {
	case len(name) > maxQuotaName:
		return fmt.Errorf("a name of %d bytes; expected at most %d", len(name), maxQuotaName)
	case strings.Contains(name, "/"):
		return s.checkPrincipal(name)
	case name == "" || strings.ContainsAny(name, " \t\r\n,"):
		return fmt.Errorf("%q; expected default, a role, or a principal such as issuer:idp/123", clip(name))
	}
	return nil
}

// quotaTable holds the entries in force: those of auth.file, under those set while the hub runs. Safe for concurrent use.
type quotaTable struct {
	settings *Settings
	state    hub.StateReader
	cache    atomic.Pointer[quotasAt]
}

type quotasAt struct {
	version uint64
	entries map[string]QuotaSetting
	bytes   bool // some entry limits bytes
}

// current returns the entries in force.
func (t *quotaTable) current() *quotasAt {
	var version uint64
	t.state.View(func(st *hub.State) { version = st.AccessVersion() })
	if at := t.cache.Load(); at != nil && at.version == version {
		return at
	}
	var stored []hub.QuotaSetting
	t.state.View(func(st *hub.State) { stored, version = st.QuotaSettings(), st.AccessVersion() })
	at := &quotasAt{version: version, entries: map[string]QuotaSetting{}}
	for name, entry := range t.settings.Quotas {
		at.entries[name] = entry
	}
	for _, st := range stored {
		if set, ok := StoredQuotas(&st); ok {
			base := at.entries[st.Name]
			at.entries[st.Name] = set.Over(&base)
		}
	}
	for _, e := range at.entries {
		at.bytes = at.bytes || e.StoredBytes != nil || e.DeadLetterBytes != nil
	}
	t.cache.Store(at)
	return at
}

// limitsBytes reports whether an entry in force limits bytes, as of when the rules were last asked for.
func (t *quotaTable) limitsBytes() bool {
	at := t.cache.Load()
	return at != nil && at.bytes
}

// StoredQuotas decodes quotas of the state; ok is false for what this version does not understand, which limits nothing.
func StoredQuotas(st *hub.QuotaSetting) (set QuotaSetting, ok bool) {
	ok = json.Unmarshal(st.Quotas, &set) == nil && set.check() == nil
	return set, ok
}

// builtInQuotas are those of whom no entry says anything else, in the order of QuotaNames.
func builtInQuotas() [countQuotas]int64 {
	d := hub.DefaultQuotas()
	return [...]int64{int64(d.Topics), int64(d.Subscriptions), int64(d.PendingRequests), int64(d.IdempotencyKeys), int64(d.APIKeys),
		int64(d.NoncesPerMinute), defaultStreams, d.StoredBytes, d.DeadLetterBytes}
}

// of returns the quotas of a principal: its own entry's, or else the largest of its roles, or else the default ones.
func (at *quotasAt) of(principal string, roles []string, hubs HubLimits) Quotas {
	q := builtInQuotas()
	whole := [countQuotas]int64{storedBytes: hubs.StoredBytes, letterBytes: hubs.DeadLetterBytes}
	apply := func(name string, largest *[countQuotas]bool) {
		e, ok := at.entries[name]
		if !ok {
			return
		}
		for i, l := range e.limits() {
			if l == nil {
				continue
			}
			n := l.of(whole[i])
			if largest == nil {
				q[i] = n
			} else if !largest[i] || n == 0 || q[i] != 0 && n > q[i] {
				q[i], largest[i] = n, true
			}
		}
	}
	apply(DefaultQuotas, nil)
	var largest [countQuotas]bool
	for _, role := range roles {
		if role != DefaultQuotas && !strings.Contains(role, "/") {
			apply(role, &largest)
		}
	}
	if principal != DefaultQuotas {
		apply(principal, nil)
	}
	return Quotas{hub.Quotas{Topics: int(q[0]), Subscriptions: int(q[1]), PendingRequests: int(q[2]), IdempotencyKeys: int(q[3]), APIKeys: int(q[4]),
		NoncesPerMinute: int(q[5]), StoredBytes: q[storedBytes], DeadLetterBytes: q[letterBytes]}, int(q[6])}
}

// Quotas returns the quotas of a principal. Its roles count if it is the caller of ctx.
func (g *Guard) Quotas(ctx context.Context, principal string) Quotas {
	var roles []string
	if p := CallerOf(ctx).Principal; p.Is(principal) {
		roles = p.Roles
	}
	return g.rules().quotas.current().of(principal, roles, g.Whole)
}

// QuotaEntry is an entry of quotas and where it comes from.
type QuotaEntry struct {
	Name    string
	InForce QuotaSetting
	File    *QuotaSetting // of auth.file, nil: none
	Set     *QuotaSetting // while the hub runs, over the file's; nil: none
	SetAt   time.Time
	By      string
}

// QuotaEntries returns the entries of auth.file and those set while the hub runs, in order of name, and first the default with all its
// limits.
func (g *Guard) QuotaEntries() []QuotaEntry {
	var stored []hub.QuotaSetting
	g.rules().quotas.state.View(func(st *hub.State) { stored = st.QuotaSettings() })
	entries := map[string]*QuotaEntry{DefaultQuotas: {Name: DefaultQuotas}}
	for name, set := range g.rules().quotas.settings.Quotas {
		entries[name] = &QuotaEntry{Name: name, InForce: set, File: &set}
	}
	for _, st := range stored {
		set, ok := StoredQuotas(&st)
		if !ok {
			continue
		}
		e := cmp.Or(entries[st.Name], &QuotaEntry{Name: st.Name})
		e.InForce, e.Set, e.SetAt, e.By = set.Over(&e.InForce), &set, st.SetAt, st.By
		entries[st.Name] = e
	}
	var all [countQuotas]*Limit
	for i, n := range builtInQuotas() {
		all[i] = &Limit{n: n}
	}
	builtIn, first := settingOf(&all), entries[DefaultQuotas]
	first.InForce = first.InForce.Over(&builtIn)
	delete(entries, DefaultQuotas)
	out := []QuotaEntry{*first}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, *entries[name])
	}
	return out
}

// CheckQuotas checks quotas that are to be set while the hub runs, and returns how the state keeps them.
func (g *Guard) CheckQuotas(name string, set *QuotaSetting) (hub.QuotaSetting, error) {
	out := hub.QuotaSetting{Name: name}
	if err := g.rules().quotas.settings.checkQuotaName(name); err != nil {
		return out, err
	}
	if set.Empty() {
		return out, fmt.Errorf("no quota is named; expected some of %s", strings.Join(QuotaNames(), ", "))
	}
	if err := set.check(); err != nil {
		return out, err
	}
	if strings.Contains(name, "/") {
		for _, b := range []struct {
			limit *Limit
			hubs  int64
			to    **int64
		}{{set.StoredBytes, g.Whole.StoredBytes, &out.StoredBytes}, {set.DeadLetterBytes, g.Whole.DeadLetterBytes, &out.DeadLetterBytes}} {
			if b.limit != nil {
				*b.to = new(b.limit.of(b.hubs))
			}
		}
	}
	var err error
	out.Quotas, err = json.Marshal(set)
	return out, err
}
