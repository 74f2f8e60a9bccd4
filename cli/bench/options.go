package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Options say what is measured and where it is shown.
type Options struct {
	// Binary is the hub that is measured.
	Binary string
	// Duration is how long the main phases load the hub; the others take a share of it. At
	// least MinDuration.
	Duration time.Duration
	// Phases are names or groups of phases (see PhaseNames); none: all.
	Phases []string
	// Nodes is how many hubs form the cluster that is measured; 1: one hub without a cluster. Of the phases only publish, fanout,
	// paced and mosip can be measured on several, whose publishers go to all nodes in turn. 0: one hub, and three for the
	// phases that have an aim for three; with Quick or named phases one hub only.
	Nodes int
	// Quick leaves out the phases that say least and shortens the others to about a second.
	Quick bool
	// Dir is where the hubs keep their data during the run; empty: the directory for temporary files. What it
	// lies on decides what an fsync costs.
	Dir string
	// ProfileDir, if not empty, gets a CPU profile of the hub for each phase.
	ProfileDir string
	// Progress shows a bar there; nil: none.
	Progress io.Writer
}

// quickDuration is the Duration of a quick run.
const quickDuration = time.Second

// limit is the longest a run may take: what has not begun by then is not measured.
func (o Options) limit() time.Duration {
	if o.Quick {
		return 20 * time.Second
	}
	return max(6*time.Minute, 72*o.Duration)
}

// MinDuration is the shortest Duration that says anything.
const MinDuration = 200 * time.Millisecond

// CheckPhases says which of the names is no phase.
func CheckPhases(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(phases(), func(p phase) bool { return p.is(name) }) {
			return fmt.Errorf("unknown phase %q, expected some of %s", name, strings.Join(PhaseNames(), ", "))
		}
	}
	return nil
}

func (o Options) check() error {
	if o.Duration < MinDuration {
		return fmt.Errorf("a duration of %v is too short, expected at least %v", o.Duration, MinDuration)
	}
	if o.Nodes > maxNodes {
		return fmt.Errorf("%d nodes are too many, expected at most %d", o.Nodes, maxNodes)
	}
	return CheckPhases(o.Phases)
}

// maxNodes is how many hubs a run starts at most.
const maxNodes = 5

// clustered tells whether a phase can be measured on several nodes.
func (p phase) clustered() bool {
	switch p.group {
	case "publish", "fanout", "paced", "mosip":
		return true
	}
	return false
}

// task is a phase to be measured on so many nodes.
type task struct {
	phase
	nodes int
}

func (t task) label() string {
	if t.nodes > 1 {
		return fmt.Sprintf("%s, %d nodes", t.name, t.nodes)
	}
	return t.name
}

// defaultNodes is how many nodes a run that says nothing about them measures besides one.
const defaultNodes = 3

// selected are the phases to run, in their order.
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

// PhaseNames lists what Options.Phases may hold: groups first, then single phases.
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
