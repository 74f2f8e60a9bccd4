package chaos_test

import (
	"errors"
	"testing"

	"quorumhub/test/chaos"
)

// inside reports whether the test has its own network. If not, the test was run in one, or skipped.
func inside(t *testing.T) bool {
	t.Helper()
	ok, err := chaos.Inside(t)
	if errors.Is(err, chaos.ErrNoNetwork) {
		unavailable(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// Partitions of all kinds, with mutual TLS between the nodes and occasional kills (I1, I2, I4).
func TestI1I4ClusterUnderPartitions(t *testing.T) {
	rounds := faultRounds(t)
	if rounds == 0 {
		t.Skip("no rounds requested")
	}
	if !inside(t) {
		return
	}
	n := chaos.NewNetwork(t, 3)
	s := chaos.StartTrio(t, chaos.TrioOptions{Sites: n.Sites, SubscribersAt: n.Host})
	faults := chaos.NetworkFaults(n)
	for _, f := range chaos.ProcessFaults() {
		f.Weight = 1
		faults = append(faults, f)
	}
	underFaults(t, s, faults, rounds)
}
