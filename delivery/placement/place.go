package placement

import (
	"cmp"
	"maps"
	"slices"

	"quorumhub/hub"
)

// Node is a node that subscriptions can be assigned to.
type Node struct {
	ID     string
	Weight int // share relative to the others'; below 1 counts as 1
}

// Placed is a subscription and its owner. It must be placed if it has none, or one that is not among the nodes.
type Placed struct {
	Subscription hub.SubscriptionID
	Topic        hub.TopicID
	Node         string
}

// Move takes a subscription from one node (empty: none) to another.
type Move struct {
	Subscription hub.SubscriptionID
	From, To     string
}

// Place distributes subscriptions over nodes. Of every topic, and of all topics together, each node gets its share by
// weight, rounded up or down: with equal weights, nodes differ by at most one subscription. Among all such
// placements, Place picks one that moves the fewest subscriptions away from nodes that could keep them. Moves are
// ordered by subscription. The result depends only on the arguments, not on their order.
//
// The problem is to round a matrix of topics by nodes to given row and column sums at the least cost: a flow through
// a graph with as many vertices as there are nodes.
func Place(nodes []Node, subs []Placed) []Move {
	if len(nodes) == 0 || len(subs) == 0 {
		return nil
	}
	p := newPlacing(nodes, subs)
	p.choose()
	p.balance()
	return p.moves()
}

// placing is the state of one call of Place. Topics and nodes are identified by index.
type placing struct {
	nodes  []Node
	weight int // of all nodes
	topics []topicShare
	least  []int // for each node, the least number of units beyond its rounded-down shares
	most   []int // likewise the greatest
	units  []int // likewise the current
	queues [][3][]int
}

// topicShare is one topic's distribution. A node gets floor subscriptions, plus one if it has a unit.
type topicShare struct {
	have  [][]hub.SubscriptionID // by node
	loose []hub.SubscriptionID   // of no node
	floor []int
	unit  []bool
}

func newPlacing(nodes []Node, subs []Placed) *placing {
	p := &placing{nodes: slices.Clone(nodes), least: make([]int, len(nodes)), most: make([]int, len(nodes)), units: make([]int, len(nodes))}
	slices.SortFunc(p.nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	index := make(map[string]int, len(nodes))
	for i := range p.nodes {
		n := &p.nodes[i]
		n.Weight = max(n.Weight, 1)
		p.weight += n.Weight
		index[n.ID] = i
	}
	byTopic := map[hub.TopicID]*topicShare{}
	for _, s := range subs {
		t := byTopic[s.Topic]
		if t == nil {
			t = &topicShare{have: make([][]hub.SubscriptionID, len(nodes)), floor: make([]int, len(nodes)), unit: make([]bool, len(nodes))}
			byTopic[s.Topic] = t
		}
		if i, ok := index[s.Node]; ok {
			t.have[i] = append(t.have[i], s.Subscription)
		} else {
			t.loose = append(t.loose, s.Subscription)
		}
	}
	floors := make([]int, len(nodes))
	for _, id := range slices.Sorted(maps.Keys(byTopic)) {
		t := byTopic[id]
		n := len(t.loose)
		for _, have := range t.have {
			n += len(have)
		}
		for i := range p.nodes {
			t.floor[i] = p.share(n, i)
			floors[i] += t.floor[i]
		}
		p.topics = append(p.topics, *t)
	}
	for i := range p.nodes {
		p.least[i] = p.share(len(subs), i) - floors[i]
		p.most[i] = p.least[i]
		if p.fraction(len(subs), i) {
			p.most[i]++
		}
	}
	return p
}

// share is a node's part of n, rounded down; fraction reports whether it was rounded.
func (p *placing) share(n, node int) int     { return n * p.nodes[node].Weight / p.weight }
func (p *placing) fraction(n, node int) bool { return n*p.nodes[node].Weight%p.weight != 0 }

// gain is what a topic's unit saves on a node: 1 if a subscription can stay.
func (t *topicShare) gain(node int) int {
	if len(t.have[node]) > t.floor[node] {
		return 1
	}
	return 0
}

func (t *topicShare) count() (n int) {
	for _, have := range t.have {
		n += len(have)
	}
	return n + len(t.loose)
}

// choose gives each topic's units to the nodes where they save most. The sums over all topics only break ties.
func (p *placing) choose() {
	order := make([]int, 0, len(p.nodes))
	for k := range p.topics {
		t := &p.topics[k]
		n := t.count()
		left := n
		order = order[:0]
		for i := range p.nodes {
			left -= t.floor[i]
			if p.fraction(n, i) {
				order = append(order, i)
			}
		}
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Or(cmp.Compare(t.gain(b), t.gain(a)), cmp.Compare(p.units[a]-p.most[a], p.units[b]-p.most[b]))
		})
		for _, i := range order[:left] {
			t.unit[i] = true
			p.units[i]++
		}
	}
}

// balance moves units between nodes along the cheapest paths until each node's sum is within its bounds.
func (p *placing) balance() {
	n := len(p.nodes)
	p.queues = make([][3][]int, n*n)
	for k := range p.topics {
		p.offer(k)
	}
	for {
		// Nodes above their bounds shed units first; then nodes below take what others can spare.
		path := p.cheapest(func(i int) bool { return p.units[i] > p.most[i] }, func(i int) bool { return p.units[i] < p.most[i] })
		if path == nil {
			path = p.cheapest(func(i int) bool { return p.units[i] > p.least[i] }, func(i int) bool { return p.units[i] < p.least[i] })
		}
		if path == nil {
			return
		}
		for s := range len(path) - 1 {
			from, to := path[s], path[s+1]
			_, k := p.edge(from, to)
			t := &p.topics[k]
			t.unit[from], t.unit[to] = false, true
			p.offer(k)
		}
		p.units[path[0]]--
		p.units[path[len(path)-1]]++
	}
}

// offer queues every way to move one of a topic's units from one node to another.
func (p *placing) offer(k int) {
	t := &p.topics[k]
	n := t.count()
	for from := range p.nodes {
		for to := range p.nodes {
			if t.unit[from] && !t.unit[to] && p.fraction(n, to) {
				q := &p.queues[from*len(p.nodes)+to][1+t.gain(from)-t.gain(to)]
				*q = append(*q, k)
			}
		}
	}
}

// edge returns the cheapest way to move a unit between two nodes: its cost and its topic, or -1 if there is none.
func (p *placing) edge(from, to int) (cost, topic int) {
	qs := &p.queues[from*len(p.nodes)+to]
	for c := range qs {
		q := &qs[c]
		for len(*q) > 0 {
			k := (*q)[len(*q)-1]
			if t := &p.topics[k]; t.unit[from] && !t.unit[to] {
				return c - 1, k
			}
			*q = (*q)[:len(*q)-1] // moved another way meanwhile
		}
	}
	return 0, -1
}

// cheapest returns the cheapest path from a node that gives to one that takes, or nil if there is none
// (Bellman-Ford).
func (p *placing) cheapest(gives, takes func(int) bool) []int {
	const far = int(^uint(0) >> 2)
	n := len(p.nodes)
	dist, before := make([]int, n), make([]int, n)
	for i := range n {
		dist[i], before[i] = far, -1
		if gives(i) {
			dist[i] = 0
		}
	}
	for range n {
		for from := range n {
			if dist[from] == far {
				continue
			}
			for to := range n {
				if cost, k := p.edge(from, to); k >= 0 && dist[from]+cost < dist[to] {
					dist[to], before[to] = dist[from]+cost, from
				}
			}
		}
	}
	end := -1
	for i := range n {
		if takes(i) && dist[i] < far && (end < 0 || dist[i] < dist[end]) {
			end = i
		}
	}
	if end < 0 {
		return nil
	}
	path := []int{end}
	for before[path[0]] >= 0 {
		path = slices.Insert(path, 0, before[path[0]])
	}
	return path
}

// moves returns the differences between current and target owners. The newest subscriptions of a topic move.
func (p *placing) moves() []Move {
	var out []Move
	for k := range p.topics {
		t := &p.topics[k]
		var leaving []Move
		for _, id := range t.loose {
			leaving = append(leaving, Move{Subscription: id})
		}
		want := slices.Clone(t.floor)
		for i, have := range t.have {
			if t.unit[i] {
				want[i]++
			}
			if len(have) > want[i] {
				slices.Sort(have)
				for _, id := range have[want[i]:] {
					leaving = append(leaving, Move{Subscription: id, From: p.nodes[i].ID})
				}
			}
		}
		slices.SortFunc(leaving, func(a, b Move) int { return cmp.Compare(a.Subscription, b.Subscription) })
		for i, have := range t.have {
			for range want[i] - len(have) {
				leaving[0].To = p.nodes[i].ID
				out = append(out, leaving[0])
				leaving = leaving[1:]
			}
		}
	}
	slices.SortFunc(out, func(a, b Move) int { return cmp.Compare(a.Subscription, b.Subscription) })
	return out
}
