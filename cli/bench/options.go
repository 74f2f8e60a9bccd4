package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Options configures a run.
type Options struct {
	// Binary is the quorumhub binary to measure.
	Binary string
	// Duration is how long the main phases load the hub; other phases take a share of it. At least MinDuration.
	Duration time.Duration
	// Phases holds names or groups of phases (see PhaseNames). Empty means all.
	Phases []string
	// Nodes is the size of the cluster to measure; 1 means a single node without a cluster. Only the phases publish, fanout, paced and
	// mosip run on several nodes, with publishers using all nodes in turn. 0 means one node, then three for the phases with an aim for
	// three; with Quick or Phases, one node only.
	Nodes int
	// Quick skips the less informative phases and shortens the others to about a second.
	Quick bool
	// Dir is where the hubs keep their data during the run. Empty means the directory for temporary files. Its file system determines
	// the cost of an fsync.
	Dir string
	// ProfileDir receives a CPU profile of the hub for each phase. Empty means no profiles.
	ProfileDir string
	// Progress receives a progress bar; nil means none.
	Progress io.Writer
}

// quickDuration is the Duration of a quick run.
const quickDuration = time.Second

// limit is the time after which no further phase starts.
func (o Options) limit() time.Duration {
	if o.Quick {
		return 20 * time.Second
	}
	return max(6*time.Minute, 72*o.Duration)
}

// MinDuration is the shortest meaningful Duration.
const MinDuration = 200 * time.Millisecond

// CheckPhases returns an error if a name is neither a phase nor a group.
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

// maxNodes is the largest cluster to measure.
const maxNodes = 5

// clustered reports whether a phase can run on several nodes.
func (p phase) clustered() bool {
	switch p.group {
	case "publish", "fanout", "paced", "mosip":
		return true
	}
	return false
}

// task is a phase to measure on a number of nodes.
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
