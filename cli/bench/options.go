package bench

import (
	"io"
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

// maxNodes is the largest cluster to measure.
const maxNodes = 5
