package bench

import (
	"fmt"
	"slices"
	"strings"
)

// phases returns all phases in order.
func phases() []phase {
	return []phase{
		publishPhase(128, 1, false, atLeast(0.45)),
		publishPhase(16, 0.6, true, nil),
		publishPhase(1, 0.4, false, nil),
		fanoutPhase(100, 1, 0.8, false, atLeast(0.75)),
		fanoutPhase(10, 0.6, 0.6, true, nil),
		fanoutPhase(1, 0.6, 0.3, false, nil),
		pacedPhase(),
		mosipPhase(),
		noisyPhase(),
		sickPhase(),
		catchupPhase(),
		footprintPhase(),
		idlePhase(),
		churnPhase(),
		gatewayPhase(),
		gatewayMemoryPhase(),
	}
}

// CheckPhases returns an error if a name is neither a phase nor a group.
func CheckPhases(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(phases(), func(p phase) bool { return p.is(name) }) {
			return fmt.Errorf("unknown phase %q, expected some of %s", name, strings.Join(PhaseNames(), ", "))
		}
	}
	return nil
}

// defaultNodes is the cluster size that a run measures by default, after a single node.
const defaultNodes = 3

// selected returns the phases to run, in order.
func (o Options) selected() []task {
	var out []task
	for _, p := range phases() {
		named := len(o.Phases) == 0 || slices.ContainsFunc(o.Phases, p.is)
		exact := slices.Contains(o.Phases, p.name)
		if exact || named && !(o.Quick && p.slow) {
			if nodes := max(o.Nodes, 1); nodes == 1 || p.clustered() {
				out = append(out, task{p, nodes})
			}
		}
	}
	if o.Nodes == 0 && !o.Quick && len(o.Phases) == 0 {
		for _, p := range phases() {
			if p.clustered() && aimOnNodes(p.name) != nil {
				out = append(out, task{p, defaultNodes})
			}
		}
	}
	return out
}

// PhaseNames lists the valid values of Options.Phases: groups first, then single phases.
func PhaseNames() []string {
	var groups, names []string
	for _, p := range phases() {
		if !slices.Contains(groups, p.group) {
			groups = append(groups, p.group)
		}
		if p.name != p.group {
			names = append(names, p.name)
		}
	}
	return append(groups, names...)
}
