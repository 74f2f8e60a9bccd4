package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
)

// ConcernKind is what a Concern is about.
type ConcernKind string

// Kinds of concerns.
const (
	ConcernCluster  ConcernKind = "cluster"      // nodes, votes, the log, clocks
	ConcernDisk     ConcernKind = "disk"         // space on a node's disk
	ConcernFailing  ConcernKind = "failing"      // subscriptions whose deliveries fail
	ConcernLetters  ConcernKind = "dead_letters" // messages that were given up
	ConcernLag      ConcernKind = "lag"          // messages that wait without a failure
	ConcernKeys     ConcernKind = "keys"         // certificates and keys that end
	ConcernGateway  ConcernKind = "gateway"      // the gateway's registry
	ConcernSettings ConcernKind = "settings"     // whatever else a node warns of
)

// Concern is something that an operator should attend to.
type Concern struct {
	Kind ConcernKind `json:"kind"`
	// Bad says that something does not work, as opposed to what will not, or may not.
	Bad  bool   `json:"bad"`
	Text string `json:"text"` // a sentence
}

// Health is what Concerns looks at.
type Health struct {
	Now     time.Time
	Leader  string
	Nodes   []Node
	Picture *figures.Picture // nil: no figures
	Counts  hub.Counts
	// KeysEnding and KeysEnded count the subscriptions whose encryption key ends within a month, and has ended.
	KeysEnding, KeysEnded int
	Gateway               []string // what is wrong with the gateway's registry
}

const (
	// patientLag is for how long messages may wait before that is a concern.
	patientLag = time.Minute
	// certificateSoon is how long before its end a certificate is a concern; for one with a short life, a quarter of that is.
	certificateSoon = 30 * 24 * time.Hour
)

// Concerns returns what an operator should attend to, the worst first; none means that all is well.
func (h *Health) Concerns() []Concern {
	var out []Concern
	add := func(kind ConcernKind, bad bool, format string, args ...any) {
		out = append(out, Concern{kind, bad, fmt.Sprintf(format, args...)})
	}
	h.nodes(add)
	if h.Picture != nil {
		h.disks(add)
		h.deliveries(add)
	}
	if n := h.Counts.DeadLetters; n > 0 {
		add(ConcernLetters, false, "%s.", number(n, "message was given up: replay or drop the dead letter", "messages were given up: replay or drop the dead letters"))
	}
	if h.KeysEnded > 0 {
		add(ConcernKeys, true, "%s, so nothing is sent.", number(h.KeysEnded, "subscription has an encryption key that has ended", "subscriptions have encryption keys that have ended"))
	}
	if h.KeysEnding > 0 {
		add(ConcernKeys, false, "%s within a month.", number(h.KeysEnding, "encryption key of a subscription ends", "encryption keys of subscriptions end"))
	}
	for _, text := range h.Gateway {
		add(ConcernGateway, true, "The gateway does not serve its newest registry whole: %s.", sentence(text))
	}
	if h.Picture != nil {
		h.statements(add)
	}
	slices.SortStableFunc(out, func(a, b Concern) int {
		rank := map[bool]int{true: 0, false: 1}
		return cmp.Compare(rank[a.Bad], rank[b.Bad])
	})
	return out
}

type addConcern func(kind ConcernKind, bad bool, format string, args ...any)

// nodes looks at the cluster.
func (h *Health) nodes(add addConcern) {
	if h.Leader == "" {
		add(ConcernCluster, true, "No node leads, so nothing can be published or changed.")
	}
	voters, up := 0, 0
	var down, behind []string
	for i := range h.Nodes {
		n := &h.Nodes[i]
		if n.Voter {
			voters++
		}
		switch {
		case n.Role == RoleDown:
			down = append(down, n.ID)
			continue
		case !n.Healthy && h.Leader != "":
			behind = append(behind, n.ID)
		}
		if n.Voter {
			up++
		}
	}
	if len(down) > 0 {
		spare := up - voters/2 - 1
		text := "nothing can be published until a majority of the voters is back"
		switch {
		case spare > 0:
			text = fmt.Sprintf("%d more may fail", spare)
		case spare == 0:
			text = "if one more voter fails, nothing can be published"
		}
		add(ConcernCluster, true, "%s %s down: %s.", strings.Join(down, ", "), is(down), text)
	}
	if len(behind) > 0 {
		add(ConcernCluster, false, "%s %s not caught up with the leader.", strings.Join(behind, ", "), has(behind))
	}
	seen := map[uint64]*Node{}
	for i := range h.Nodes {
		n := &h.Nodes[i]
		if n.AppliedIndex == 0 || n.StateHash == 0 {
			continue
		}
		if other := seen[n.AppliedIndex]; other != nil && other.StateHash != n.StateHash {
			add(ConcernCluster, true, "%s and %s have different states after the same entries (%d): one of them is damaged.", other.ID, n.ID, n.AppliedIndex)
		}
		if seen[n.AppliedIndex] == nil {
			seen[n.AppliedIndex] = n
		}
	}
}

// disks looks at the space that is left.
func (h *Health) disks(add addConcern) {
	for i := range h.Picture.Nodes {
		n := &h.Picture.Nodes[i]
		s := &n.Status
		switch {
		case s.DiskFull:
			add(ConcernDisk, true, "The disk of %s is full (%s free of at least %s): it takes no new messages.", n.Node, mebibytes(s.FreeDiskBytes), mebibytes(s.MinFreeBytes))
		case s.FreeDiskBytes > 0 && s.FreeDiskBytes < 3*s.MinFreeBytes:
			add(ConcernDisk, false, "The disk of %s has %s left; below %s it takes no new messages.", n.Node, mebibytes(s.FreeDiskBytes), mebibytes(s.MinFreeBytes))
		}
	}
}

// deliveries looks at what is not delivered.
func (h *Health) deliveries(add addConcern) {
	now := &h.Picture.Now
	if now.FailingNow > 0 && len(h.Picture.Failing) > 0 {
		f := &h.Picture.Failing[0]
		what := f.Reason
		if f.Status > 0 {
			what = fmt.Sprintf("HTTP %d", f.Status)
		}
		add(ConcernFailing, true, "%s; %s for longest, for %s (%s).", number(now.FailingNow, "subscription is failing", "subscriptions are failing"), f.Subscription, span(h.Now.Sub(f.Since)), what)
	} else if oldest := time.Duration(now.Oldest * float64(time.Second)); oldest > patientLag {
		add(ConcernLag, false, "%s to be delivered, the oldest for %s.", number(int(now.Lag), "message waits", "messages wait"), span(oldest))
	}
}

// statements passes on what the nodes say about themselves, once if several say the same.
func (h *Health) statements(add addConcern) {
	said := map[string]bool{}
	for i := range h.Picture.Nodes {
		n := &h.Picture.Nodes[i]
		for _, text := range n.Status.NotReady {
			if text != hub.ErrDiskFull.Error() {
				add(ConcernCluster, true, "%s takes no requests: %s.", n.Node, sentence(text))
			}
		}
		for _, text := range n.Status.Warnings {
			if !said[text] {
				said[text] = true
				add(ConcernSettings, false, "%s.", sentence(text))
			}
		}
		for _, e := range n.Status.Endings {
			left := e.Ends.Sub(h.Now)
			switch {
			case left <= 0:
				add(ConcernKeys, true, "Of %s, %s has ended %s ago.", n.Node, e.What, span(left))
			case left < min(certificateSoon, e.Ends.Sub(e.Begins)/4):
				add(ConcernKeys, false, "Of %s, %s ends in %s.", n.Node, e.What, span(left))
			}
		}
	}
}

// sentence takes the full stop from a text that will be followed by one.
func sentence(text string) string { return strings.TrimRight(strings.TrimSpace(text), ".") }

func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func is(list []string) string {
	if len(list) == 1 {
		return "is"
	}
	return "are"
}

func has(list []string) string {
	if len(list) == 1 {
		return "has"
	}
	return "have"
}

func mebibytes(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// span writes how long something took in its largest unit.
func span(d time.Duration) string {
	switch d = d.Abs(); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
