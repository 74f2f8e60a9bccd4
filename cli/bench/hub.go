package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// readyWithin is how long a hub may take to become ready before the run fails.
const readyWithin = 20 * time.Second

// child is a hub process with its own directory.
type child struct {
	URL     string
	StartUp time.Duration // from exec to the first 200 of /health/ready

	others []*child // the other nodes of its cluster
	parent string   // the directory of all nodes

	dir    string
	cmd    *exec.Cmd
	output *os.File
	began  time.Time
	ended  chan struct{}
	client *http.Client
	key    string // an API key for requests to the hub's own routes; empty: none
}

// place is a hub's addresses, directory and peers.
type place struct {
	id, http, cluster, dir string
	public                 string   // HTTP address of the first node
	peers                  []string // empty for a single node
	key                    string   // the file of the peers' sealing key
}

// settings returns the configuration of the measured hub, other than its defaults, as YAML.
func settings(p place, more []string) string {
	lines := []string{
		"http: {addr: " + quote(p.http) + ", public_url: " + quote("http://"+p.public) + "}",
		"cluster: {addr: " + quote(p.cluster) + ", node_id: " + p.id + peersOf(p.peers) + "}",
		"data_dir: " + quote(filepath.Join(p.dir, "data")),
		"topics: {auto_register: true}",
		// All load comes from one client, and all callbacks are on one host.
		`limits: {publish: "0", subscribe: "0", read: "0", admin: "0", callback_host: "0", pending: 0}`,
		"log: {level: warn}",
	}
	if p.key != "" {
		lines = append(lines, "secrets: {key_file: "+quote(p.key)+"}")
	}
	delivery := "delivery: {egress: {mode: dev-loopback}"
	for _, m := range more {
		delivery += ", " + m
	}
	return strings.Join(append(lines, delivery+"}"), "\n") + "\n"
}

func peersOf(peers []string) string {
	if len(peers) == 0 {
		return ""
	}
	quoted := make([]string, len(peers))
	for i, p := range peers {
		quoted[i] = quote(p)
	}
	return ", peers: [" + strings.Join(quoted, ", ") + "]"
}

func quote(s string) string { return strconv.Quote(s) }

// startHub starts a hub on free loopback ports in a new directory below parent and waits until it is ready. more holds settings of the
// section delivery.
func startHub(ctx context.Context, binary, parent string, env []string, more ...string) (*child, error) {
	dir, err := os.MkdirTemp(parent, "quorumhub-bench-")
	if err != nil {
		return nil, err
	}
	var c *child
	for range 5 { // another process may take the port before the hub does
		c, err = launch(ctx, binary, dir, env, more)
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// restart kills the hub and starts another one on its files.
func (c *child) restart(ctx context.Context, binary string, env []string, more ...string) (*child, error) {
	if err := c.kill(); err != nil {
		return nil, err
	}
	next, err := launch(ctx, binary, c.dir, env, more)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(c.dir))
	}
	return next, nil
}

func launch(ctx context.Context, binary, dir string, env, more []string) (*child, error) {
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	c, err := start(binary, place{id: "node-1", http: addrs[0], cluster: addrs[1], dir: dir, public: addrs[0]}, env, more)
	if err != nil {
		return nil, err
	}
	if err := c.started(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// start starts a hub without waiting for it.
func start(binary string, p place, env, more []string) (*child, error) {
	config := filepath.Join(p.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(settings(p, more)), 0o600); err != nil {
		return nil, err
	}
	output, err := os.Create(filepath.Join(p.dir, "quorumhub.log"))
	if err != nil {
		return nil, err
	}
	c := &child{
		URL: "http://" + p.http, dir: p.dir, output: output, ended: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 10 * time.Second},
	}
	c.cmd = exec.Command(binary, "serve", "--config", config)
	c.cmd.Env = append(withoutHub(os.Environ()), env...)
	c.cmd.Stdout, c.cmd.Stderr = output, output

	c.began = time.Now()
	if err := spawn(c.cmd, c.ended); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", binary, err), output.Close())
	}
	return c, nil
}

// spawn starts a process that does not outlive this one, and closes ended when it has exited.
func spawn(cmd *exec.Cmd, ended chan<- struct{}) error {
	cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends (see childAttributes).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState has the result
			close(ended)
		}
	}()
	return <-started
}

// started waits until the hub is ready, and kills it if that fails.
func (c *child) started(ctx context.Context) error {
	if err := c.awaitReady(ctx); err != nil {
		err = fmt.Errorf("the hub did not become ready: %w\n%s", err, c.log())
		return errors.Join(err, c.kill())
	}
	c.StartUp = time.Since(c.began)
	return nil
}

func (c *child) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("no response")
	for {
		select {
		case <-c.ended:
			return fmt.Errorf("it exited (%v)", c.cmd.ProcessState)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-tick.C:
		}
		resp, err := c.get(ctx, "/health/ready")
		if err != nil {
			last = err
			continue
		}
		if resp.status == http.StatusOK {
			return nil
		}
		last = fmt.Errorf("/health/ready responded %d", resp.status)
	}
}

type answer struct {
	status int
	body   []byte
}

func (c *child) get(ctx context.Context, path string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return answer{}, err
	}
	c.sign(req)
	return do(c.client, req)
}

func (c *child) sign(req *http.Request) {
	if c.key != "" {
		req.Header.Set("X-Api-Key", c.key)
	}
}

func (c *child) form(ctx context.Context, form url.Values) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/hub", strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(c.client, req)
}

func do(client *http.Client, req *http.Request) (answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return answer{resp.StatusCode, body}, err
}

// publishURL returns the URL for publishing content to a topic.
func (c *child) publishURL(topic string) string {
	return c.URL + "/hub?hub.mode=publish&hub.topic=" + url.QueryEscape(c.topicURL(topic))
}

func (c *child) topicURL(topic string) string { return c.URL + "/topics/" + topic }

// alive returns an error if the process, or another of its cluster, has exited.
func (c *child) alive() error {
	select {
	case <-c.ended:
		return fmt.Errorf("the hub exited (%v):\n%s", c.cmd.ProcessState, c.log())
	default:
	}
	for _, o := range c.others {
		if err := o.alive(); err != nil {
			return err
		}
	}
	return nil
}

// memory returns the current and the peak resident size in bytes.
func (c *child) memory() (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	now, err = kibibytes(status, "VmRSS:")
	if err != nil {
		return 0, 0, err
	}
	peak, err = kibibytes(status, "VmHWM:")
	return now, peak, err
}

// metric reads one figure from /metrics.
func (c *child) metric(ctx context.Context, name string) (float64, error) {
	got, err := c.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(got.body) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return strconv.ParseFloat(string(bytes.TrimSpace(rest)), 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// files returns the disk usage of the hub's data directory, or of a directory in it.
func (c *child) files(below string) (int64, error) {
	var total int64
	err := filepath.WalkDir(filepath.Join(c.dir, "data", below), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n, err := diskUsage(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed meanwhile
		}
		total += n
		return err
	})
	return total, err
}

func kibibytes(status []byte, name string) (int64, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(string(bytes.TrimSpace(rest)), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/<pid>/status has no %s", name)
}

// cpu returns the processor time used by all nodes of the hub.
func (c *child) cpu() (time.Duration, error) {
	used, err := cpuOf(c.cmd.Process.Pid)
	for _, o := range c.others {
		its, e := o.cpu()
		used, err = used+its, errors.Join(err, e)
	}
	return used, err
}

// cpuOf returns the processor time that a process has used.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may contain spaces. utime and stime are fields 14 and 15, in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/<pid>/stat is too short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

func (c *child) log() string {
	b, err := os.ReadFile(filepath.Join(c.dir, "quorumhub.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// kill kills the process and keeps its files.
func (c *child) kill() error {
	var err error
	if e := c.cmd.Process.Kill(); e != nil && !errors.Is(e, os.ErrProcessDone) {
		err = e
	}
	<-c.ended
	c.client.CloseIdleConnections()
	return errors.Join(err, c.output.Close())
}

// Close kills the processes of the hub and removes their files.
func (c *child) Close() error {
	err := c.kill()
	for _, o := range c.others {
		err = errors.Join(err, o.kill())
	}
	if c.parent != "" {
		return errors.Join(err, os.RemoveAll(c.parent))
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

// withoutHub removes the variables that configure a hub from an environment.
func withoutHub(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "QUORUMHUB_") {
			out = append(out, kv)
		}
	}
	return out
}

func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}
