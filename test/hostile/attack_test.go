package hostile_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// attackEnv names the variable that turns the test binary into the attacker: a process of its own, with the lowest priority, so that
// the hub's answers are measured and not what the attacker itself costs.
const attackEnv = "QUORUMHUB_TEST_ATTACK"

// tenantAttack is what one tenant does to a cluster, all of it at once, until its standard input ends. It is paced: what is shown is
// that it gets no more than its share, not how fast a machine is.
type tenantAttack struct {
	Nodes   []string // base URLs
	Ports   []string // cluster ports
	Key     string   // API key of a tenant with ordinary rights
	Signer  string   // GEO-Auth key of the same tenant
	Useless string   // GEO-Auth key without rights
	Secret  string   // of both
	Hook    string   // a callback that refuses everything

	mu     sync.Mutex
	counts map[string]int // by kind of attack and outcome
}

// attackAsChild is main in the attacker's process.
func attackAsChild(settings string) int {
	for range 2 { // Linux sets it for each thread, and new ones are as those that make them
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			if id, err := strconv.Atoi(thread.Name()); err == nil {
				_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
			}
		}
	}
	a := &tenantAttack{counts: map[string]int{}}
	if err := json.Unmarshal([]byte(settings), a); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	a.run(ctx)
	if err := json.NewEncoder(os.Stdout).Encode(a.counts); err != nil {
		return 1
	}
	return 0
}

// again is how long the attacker waits before it opens another connection in place of one that was closed. All begin within a window,
// so that in the others connections are held rather than made.
const again = 5 * window

func (a *tenantAttack) run(ctx context.Context) {
	var all sync.WaitGroup
	for i := range a.Nodes {
		for host := 66; host < 69; host++ {
			all.Go(func() { a.idle(ctx, i, fmt.Sprint("127.0.0.", host)) })
		}
		for range 256 {
			all.Go(func() { a.body(ctx, i, "127.0.0.73", "body without credentials", "") })
		}
		for range 64 * min(i, 1) { // at node-1 the tenant needs its share of bodies to fill the log
			all.Go(func() { a.body(ctx, i, "127.0.0.74", "body", "X-API-Key: "+a.Key+"\r\n") })
		}
		for range 128 {
			all.Go(func() { a.stranger(ctx, i) })
		}
		all.Go(func() { a.tokens(ctx, i) })
		all.Go(func() { a.keys(ctx, i) })
		all.Go(func() { a.sign(ctx, i, "127.0.0.71", "signed without rights", a.Useless) })
		all.Go(func() { a.sign(ctx, i, "127.0.0.72", "signed", a.Signer) })
	}
	all.Go(func() { a.fill(ctx) })
	all.Wait()
}

func (a *tenantAttack) count(kind, outcome string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[kind+": "+outcome]++
}

// every calls f again and again, pause after pause, or as often as f can.
func every(ctx context.Context, pause time.Duration, f func(i int)) {
	tick := time.NewTicker(1 + mathrand.N(min(pause, window))) // not all at the same time
	select {
	case <-tick.C:
		tick.Reset(pause)
	case <-ctx.Done():
	}
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		f(i)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// linger opens a connection, says something, and keeps it until the other side closes it. It returns the status that it was answered.
func linger(ctx context.Context, from, to, text string) string {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp4", to)
	if err != nil {
		return "not connected"
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if _, err := io.WriteString(c, text); err != nil {
		return "closed"
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	switch {
	case ctx.Err() != nil:
		return "held to the end"
	case err != nil:
		return "closed"
	}
	_ = resp.Body.Close()
	_, _ = io.Copy(io.Discard, c) // until the hub hangs up
	return resp.Status
}

// body announces a large body and sends one byte of it.
func (a *tenantAttack) body(ctx context.Context, node int, from, kind, credentials string) {
	every(ctx, again, func(int) {
		a.count(kind, linger(ctx, from, strings.TrimPrefix(a.Nodes[node], "http://"),
			"POST /topics/shared/other HTTP/1.1\r\nHost: "+strings.TrimPrefix(a.Nodes[node], "http://")+"\r\n"+credentials+"Content-Length: 262144\r\n\r\nx"))
	})
}

// idle opens more connections than one address may, and sends nothing.
func (a *tenantAttack) idle(ctx context.Context, node int, from string) {
	var all sync.WaitGroup
	for range clientConnections + 200 {
		all.Go(func() {
			every(ctx, again, func(int) { a.count("idle", linger(ctx, from, strings.TrimPrefix(a.Nodes[node], "http://"), "")) })
		})
	}
	all.Wait()
}

// stranger connects to a node's port for other nodes and says nothing of use.
func (a *tenantAttack) stranger(ctx context.Context, node int) {
	every(ctx, again, func(i int) { a.count("stranger", linger(ctx, attacker, a.Ports[node], strings.Repeat("\x01", i%2))) })
}

// client returns a client with an address of its own, so that one attack does not use up what another one may have.
func (a *tenantAttack) client(address string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: d.DialContext}}
}

func (a *tenantAttack) do(ctx context.Context, client *http.Client, kind, url string, body []byte, header http.Header) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		a.count(kind, err.Error())
		return
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		a.count(kind, "no answer")
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	a.count(kind, resp.Status)
	if resp.Header.Get("Idempotency-Keys-Forgotten") != "" {
		a.count(kind, "forgotten")
	}
}

// tokens sends tokens that nobody has seen before.
func (a *tenantAttack) tokens(ctx context.Context, node int) {
	client := a.client("127.0.0.69")
	every(ctx, time.Second/30, func(int) {
		go a.do(ctx, client, "token", a.Nodes[node]+"/topics/shared/other", nil, http.Header{"Cookie": {"Authorization=" + rand.Text()}})
	})
}

// keys publishes messages of one byte, each with an idempotency key of its own, and those that another tenant uses.
func (a *tenantAttack) keys(ctx context.Context, node int) {
	client := a.client("127.0.0.70")
	every(ctx, time.Second/30, func(i int) {
		key := rand.Text()
		if i%2 == 0 {
			key = victimKey(i / 2)
		}
		a.do(ctx, client, "key", a.Nodes[node]+"/topics/shared/other", []byte("x"), http.Header{"X-Api-Key": {a.Key}, "Idempotency-Key": {key}})
	})
}

// sign sends signed requests, each with a nonce of its own.
func (a *tenantAttack) sign(ctx context.Context, node int, from, kind, key string) {
	client := a.client(from)
	every(ctx, time.Second/20, func(int) {
		a.do(ctx, client, kind, a.Nodes[node]+"/topics/shared/other", []byte("x"), http.Header{"Geo-Auth": {geoHeader(key, a.Secret, "x")}})
	})
}

// geoHeader signs a body with GEO-Auth.
func geoHeader(key, secret, body string) string {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	text := fmt.Sprintf("geo-key-id=%s,geo-expires-by=%d,geo-nonce=%x-%x-%x-%x-%x", key, time.Now().Add(time.Minute).UnixMilli(),
		nonce[:4], nonce[4:6], nonce[6:8], nonce[8:10], nonce[10:])
	mac := hmac.New(sha512.New, []byte(secret))
	mac.Write([]byte(text + body))
	return text + ",geo-signature=" + hex.EncodeToString(mac.Sum(nil))
}

// fill makes a dead letter of a message in several parts, and then publishes more than retention keeps, without end.
func (a *tenantAttack) fill(ctx context.Context) {
	client := a.client("127.0.0.70")
	asKey := func(contentType string) http.Header {
		return http.Header{"X-Api-Key": {a.Key}, "Content-Type": {contentType}}
	}
	form := "hub.mode=subscribe&hub.topic=" + a.Nodes[0] + "/topics/shared/large&hub.retry.max_attempts=1&hub.callback=" + a.Hook
	a.do(ctx, client, "subscribe", a.Nodes[0]+"/hub", []byte(form), asKey("application/x-www-form-urlencoded"))
	large := make([]byte, 300<<10)
	every(ctx, time.Second/10, func(i int) {
		_, _ = rand.Read(large)
		switch {
		case i%20 == 10:
			a.do(ctx, client, "large", a.Nodes[0]+"/topics/shared/large", large, asKey("application/octet-stream"))
		default:
			a.do(ctx, client, "filler", a.Nodes[0]+"/topics/shared/filler", large[:100<<10], asKey("application/octet-stream"))
		}
	})
}
