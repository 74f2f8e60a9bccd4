package cli_test

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorumhub/cli"
)

// check runs healthcheck with an environment of its own, as in a container.
func healthcheck(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), append([]string{"healthcheck"}, args...), cli.Streams{Out: &out, Err: &errs, Env: env})
	return result{code, out.String(), errs.String()}
}

// A real node is found through its configuration, with and without TLS, on all addresses; one that is stopped or gone is not healthy.
func TestHealthcheckFindsTheNode(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"init-ca"}, {"issue-cert", "--node", "node-1", "--host", "hub.example"}} {
		if got := run(t, "", append(append([]string{"cluster"}, args...), "--dir", dir)...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	tls := []string{"--set", "http.tls.cert=" + filepath.Join(dir, "node-1.pem"), "--set", "http.tls.key=" + filepath.Join(dir, "node-1.key")}
	for name, more := range map[string][]string{"plain": nil, "tls": tls} {
		t.Run(name, func(t *testing.T) {
			_, port, _ := net.SplitHostPort(freeAddr(t))
			config := append([]string{"--set", "http.addr=0.0.0.0:" + port, "--set", "auth.mode=open", "--set", "data_dir=" + t.TempDir()}, more...)
			if got := healthcheck(t, nil, config...); got.code != 1 || !strings.Contains(got.err, "does not answer: ") {
				t.Errorf("before the start: %+v", got)
			}
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			cmd := start(t, log, log, append([]string{"serve"}, config...)...)
			eventually(t, "the node is live", func() bool { return healthcheck(t, nil, config...) == result{0, "live\n", ""} })
			eventually(t, "the node is ready", func() bool { return healthcheck(t, nil, append(config, "--ready")...) == result{0, "ready\n", ""} })
			suspend(t, cmd.Process.Pid)
			if got := healthcheck(t, nil, append(config, "--timeout", "200ms")...); got.code != 1 || !strings.Contains(got.err, "no response within 200ms") {
				t.Errorf("a stopped process: %+v", got)
			}
			for _, signal := range []os.Signal{syscall.SIGCONT, syscall.SIGTERM} {
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever is wrong, the exit code is 1, because Docker reserves the others.
func TestHealthcheckSaysWhatIsWrong(t *testing.T) {
	dead := newScriptedHub(t, answering(503, "", `{"status":"not_live","reasons":["the disk is gone","x\u001b[2J"]}`))
	waiting := newScriptedHub(t, func(w http.ResponseWriter, r request) {
		if r.Path == "/health/live" {
			_, _ = w.Write([]byte(`{"status":"live","reasons":[]}`))
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"not_ready","reasons":["no leader"]}`))
	})
	page := newScriptedHub(t, answering(200, "", "<html>"))
	other := newScriptedHub(t, answering(200, "", `{"status":"up"}`))
	below := newScriptedHub(t, func(w http.ResponseWriter, r request) {
		if r.Path != "/ws/health/live" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(`{"status":"live","reasons":[]}`))
	})
	env := func(url string) []string {
		return []string{"QUORUMHUB_HTTP_ADDR=" + strings.TrimPrefix(url, "http://")}
	}
	for name, c := range map[string]struct {
		env  []string
		args []string
		code int
		says string
	}{
		"dead":          {env(dead.URL), nil, 1, "quorumhub: the node is not live: the disk is gone; x·[2J\n"},
		"live":          {env(waiting.URL), nil, 0, "live\n"},
		"not ready":     {env(waiting.URL), []string{"--ready"}, 1, "quorumhub: the node is not ready: no leader\n"},
		"by URL":        {nil, []string{"--url", waiting.URL + "/hub"}, 0, "live\n"},
		"a page":        {env(page.URL), nil, 1, "is this a quorumhub?"},
		"another":       {env(other.URL), nil, 1, "the node is up: -"},
		"below a path":  {append(env(below.URL), "QUORUMHUB_HTTP_PUBLIC_URL=https://x.example/ws"), nil, 0, "live\n"},
		"not below it":  {append(env(waiting.URL), "QUORUMHUB_HTTP_PUBLIC_URL=https://x.example/"), nil, 0, "live\n"},
		"port 0":        {[]string{"QUORUMHUB_HTTP_ADDR=127.0.0.1:0"}, nil, 1, "expected --url"},
		"bad URL":       {nil, []string{"--url", "127.0.0.1:8080"}, 1, `--url: got "127.0.0.1:8080"`},
		"configuration": {[]string{"QUORUMHUB_HTTP_ADDR=nonsense"}, nil, 1, "http.addr"},
	} {
		if got := healthcheck(t, c.env, c.args...); got.code != c.code || !strings.Contains(got.out+got.err, c.says) {
			t.Errorf("%s: %+v, want exit code %d and %q", name, got, c.code, c.says)
		}
	}
}
