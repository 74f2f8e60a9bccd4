package hostile_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// attackFor is how long the hostile tenant attacks.
var attackFor = flag.Duration("attack", 6*time.Second, "how long TestHostileTenant attacks")

// rounds is how often latencies are compared before the test fails: whoever else uses the machine must not decide. Everything else
// must hold in each.
const rounds = 4

// TestHostileTenant: one tenant does at once what its rights, and having none, let it try: it holds back bodies, opens idle
// connections, sends made-up tokens, fills the log beside a dead letter, uses up idempotency keys and takes those of another, signs
// without end, and crowds the ports of the cluster. Another tenant does not notice, a node finds its way back, and when it is over
// everything is given back.
func TestHostileTenant(t *testing.T) {
	c := newTenantCluster(t)
	c.victim.measure(1, func() {}) // until connections are open
	for round := 1; ; round++ {
		quiet := c.victim.measure(1, func() {})
		before := c.lookAll()
		attacked, counts := c.underAttack(before)
		c.calm(before)
		again := c.victim.measure(1, func() {})
		t.Logf("99th percentiles before: %v; attacked: %v; after: %v", quiet, attacked, again)
		if round == 1 { // later ones find quotas that are used up
			c.checkAttacks(counts)
		}
		hubtest.Eventually(t, "the attacker's idempotency keys are gone with the first publish after their window", func() error {
			c.victim.publish(c.victim.next(time.Now()))
			if keys := c.used("idempotency_keys"); keys > 0 {
				return fmt.Errorf("there are %d", keys)
			}
			return nil
		})
		if attacked.publish < 2*max(quiet.publish, again.publish, floor) && attacked.delivery < 2*max(quiet.delivery, again.delivery, floor) || t.Failed() {
			return
		}
		if busy := load(); round == rounds && busy > tooBusy {
			t.Logf("%.0f processes compete for each processor: latencies are not judged", busy)
			return
		}
		if round == rounds {
			t.Fatalf("in %d rounds the other tenant waited more than twice as long for publishes, or deliveries, as without the attack", rounds)
		}
	}
}

// floor is a percentile below which a busy machine says nothing.
const floor = 10 * time.Millisecond

// tooBusy is how many processes may compete for a processor for latencies to say something; the test itself makes two or three.
const tooBusy = 6

// load is how many processes have competed for each processor lately.
func load() (load float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(text), &load)
	return load / float64(runtime.NumCPU())
}

// underAttack measures the victim's latencies, and what the nodes use, while the attack goes on. Then a node restarts.
func (c *tenantCluster) underAttack(before []usage) (latency, map[string]int) {
	c.t.Helper()
	questions := c.questions.Load()
	stop := c.start()
	begin := time.Now()
	peaks := slices.Clone(before)
	l := c.victim.measure(max(1, int(*attackFor/window)), func() {
		for i, now := range c.lookAll() {
			peaks[i] = peaks[i].max(now)
		}
	})
	for i, peak := range peaks {
		c.t.Logf("node-%d: at most %v, before %v", i+1, peak, before[i])
		c.checkUsage(i, peak, before[i])
	}
	if keys := c.used("idempotency_keys"); keys == 0 || keys > keysQuota {
		c.t.Errorf("the attacker has %d idempotency keys, want at most %d", keys, keysQuota)
	}
	c.restartFollower()
	took := time.Since(begin)
	counts := stop()
	budget := 3 * (1 + int64(took/time.Minute+1)) * refusedBudget
	if asked := c.questions.Load() - questions; asked == 0 || asked > budget {
		c.t.Errorf("the token service was asked %d times in %v, want at most %d", asked, took, budget)
	}
	if most := noncesQuota * (1 + int(took/time.Minute+1)); counts["signed: 200 OK"] > most {
		c.t.Errorf("%d signed requests were accepted in %v, want at most %d", counts["signed: 200 OK"], took, most)
	}
	return l, counts
}

// checkUsage compares what a node uses under attack with what may be used.
func (c *tenantCluster) checkUsage(i int, now, before usage) {
	c.t.Helper()
	for what, u := range map[string]struct{ now, most float64 }{
		"memory":      {now.memory, before.memory + 96*mib},
		"disk":        {now.disk, before.disk + diskBound},
		"connections": {now.connections, 3*clientConnections + 256 + 64 + 60}, // three idle addresses, bodies, and the rest with the victim
		"bodies":      {now.bodies, 4 * mib},
		"goroutines":  {now.goroutines, before.goroutines + 3*clientConnections + 256 + 64 + 400},
	} {
		if u.now > u.most {
			c.t.Errorf("node-%d: %s is %.0f, want at most %.0f", i+1, what, u.now, u.most)
		}
	}
}

// restartFollower kills a node that does not lead, and starts it again: strangers do not keep it from the others.
func (c *tenantCluster) restartFollower() {
	c.t.Helper()
	leader := string(c.call(0, operatorKey, "GET", "/v1/cluster", "").Body)
	i := 0
	if strings.Contains(leader, `"leader":"node-1"`) {
		i = 1
	}
	c.nodes[i].Kill(c.t)
	begin := time.Now()
	c.nodes[i].Restart(c.t)
	if took := time.Since(begin); took > 8*time.Second {
		c.t.Errorf("node-%d needed %v to come back", i+1, took)
	}
}

// checkAttacks checks that each attack took place, and what came of it.
func (c *tenantCluster) checkAttacks(counts map[string]int) {
	c.t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		c.t.Logf("%6d %s", counts[kind], kind)
	}
	for kind, least := range map[string]int{
		"body without credentials: 401 Unauthorized": 100, "body: 429 Too Many Requests": 1, "idle: closed": 100, "stranger: closed": 100,
		"token: 401 Unauthorized": 1, "token: 429 Too Many Requests": 20, "key: 200 OK": 50, "key: forgotten": 1, "subscribe: 202 Accepted": 1,
		"large: 200 OK": 1, "filler: 200 OK": 20, "signed: 200 OK": 20, "signed: 429 Too Many Requests": 1, "signed without rights: 403 Forbidden": 10,
	} {
		if counts[kind] < least {
			c.t.Errorf("%d times %s, want at least %d", counts[kind], kind, least)
		}
	}
	if n := counts["signed without rights: 200 OK"]; n > 0 {
		c.t.Errorf("%d requests signed without rights were accepted", n)
	}
}

// calm waits until everything is given back.
func (c *tenantCluster) calm(before []usage) {
	c.t.Helper()
	for i := range c.nodes {
		hubtest.EventuallyWithin(c.t, time.Minute, fmt.Sprintf("calm at node-%d after the attack", i+1), func() error {
			var now usage
			for range 20 { // gives the collector a reason to run
				now = c.look(i)
			}
			if now.connections > before[i].connections+15 || now.bodies > 0 || now.goroutines > before[i].goroutines+40 || now.files > before[i].files+40 ||
				now.heap > before[i].heap+16*mib || now.disk > before[i].disk+diskBound {
				return fmt.Errorf("%v, before %v", now, before[i])
			}
			return nil
		})
	}
}
