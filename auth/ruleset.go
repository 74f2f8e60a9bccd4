package auth

import (
	"encoding/json"
	"log/slog"
	"sync/atomic"

	"quorumhub/hub"
)

// RuleSet is the rules in force: those of the settings, and those set while the hub runs. Safe for concurrent use.
type RuleSet struct {
	file  []Rule
	state hub.StateReader
	log   *slog.Logger
	now   atomic.Pointer[rulesAt]
}

type rulesAt struct {
	version uint64
	rules   []Rule
}

// NewRuleSet follows the state's rules.
func NewRuleSet(file []Rule, state hub.StateReader, log *slog.Logger) *RuleSet {
	return &RuleSet{file: file, state: state, log: log}
}

// Rules are those in force now. The slice must not be changed.
func (s *RuleSet) Rules() []Rule {
	var version uint64
	s.state.View(func(st *hub.State) { version = st.AccessVersion() })
	at := s.now.Load()
	if at != nil && at.version == version {
		return at.rules
	}
	var stored []hub.AccessRule
	s.state.View(func(st *hub.State) { stored, version = st.AccessRules(), st.AccessVersion() })
	rules := append([]Rule(nil), s.file...)
	for _, r := range StoredRules(stored) {
		if s.fromFile(r.Name) {
			s.log.Warn("a rule of this name stands in auth.file, which wins over the one that was set", "rule", r.Name)
			continue
		}
		rules = append(rules, r)
	}
	s.now.Store(&rulesAt{version, rules})
	return rules
}

func (s *RuleSet) fromFile(name string) bool {
	for i := range s.file {
		if s.file[i].Name == name {
			return true
		}
	}
	return false
}

// StoredRules decodes rules of the state. One that this program does not understand gives nobody anything.
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
