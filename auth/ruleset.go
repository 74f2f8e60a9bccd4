package auth

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"

	"quorumhub/hub"
)

// RuleSet holds the rules in force: those of auth.file and those set while the hub runs. Safe for concurrent use.
type RuleSet struct {
	settings *Settings
	state    hub.StateReader
	log      *slog.Logger
	cache    atomic.Pointer[rulesAt]
	quotas   quotaTable
}

type rulesAt struct {
	version  uint64
	rules    []Rule
	revision *Revision
}

// Revision stands for the rules in force at some time. Another pointer may mean other rules.
type Revision struct{ _ byte }

// NewRuleSet combines the rules of auth.file with those of the state.
func NewRuleSet(s *Settings, state hub.StateReader, log *slog.Logger) *RuleSet {
	return &RuleSet{settings: s, state: state, log: log, quotas: quotaTable{settings: s, state: state}}
}

// Rules returns the rules in force now. The slice must not be changed.
func (s *RuleSet) Rules() []Rule {
	var version uint64
	s.state.View(func(st *hub.State) { version = st.AccessVersion() })
	at := s.cache.Load()
	if at != nil && at.version == version {
		return at.rules
	}
	var stored []hub.AccessRule
	s.state.View(func(st *hub.State) { stored, version = st.AccessRules(), st.AccessVersion() })
	rules := slices.Clone(s.settings.Rules)
	for _, r := range StoredRules(stored) {
		if s.fromFile(r.Name) {
			s.log.Warn("rule ignored: auth.file defines a rule of the same name", "rule", r.Name)
			continue
		}
		pinned, err := s.settings.pin(r)
		if err != nil {
			s.log.Warn("rule ignored: auth.file leaves open whom it names", "rule", r.Name, "error", err)
			continue
		}
		rules = append(rules, pinned)
	}
	next := &rulesAt{version, rules, new(Revision)}
	if at != nil && reflect.DeepEqual(at.rules, rules) {
		next.revision = at.revision // API keys or quotas have changed
	}
	s.cache.Store(next)
	s.quotas.current() // so that limitsBytes need not look at the state
	return rules
}

func (s *RuleSet) fromFile(name string) bool {
	return slices.ContainsFunc(s.settings.Rules, func(r Rule) bool { return r.Name == name })
}

// StoredRules decodes rules of the state. It skips rules this version does not understand, so that they grant nothing.
func StoredRules(stored []hub.AccessRule) []Rule {
	var out []Rule
	for _, st := range stored {
		var r Rule
		if json.Unmarshal(st.Rule, &r) == nil && r.Name == st.Name && r.Check() == nil {
			out = append(out, r)
		}
	}
	return out
}
