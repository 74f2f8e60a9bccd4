package cli_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClusterCommands(t *testing.T) {
	const cluster = `{"leader":"node-1","nodes":[` +
		`{"id":"node-1","http_addr":"127.0.0.1:8080","cluster_addr":"127.0.0.1:8180","role":"leader","applied_index":17,"subscriptions":3,"voter":true,"healthy":true,"last_contact_ms":0},` +
		`{"id":"node-2","http_addr":"127.0.0.1:8081","cluster_addr":"127.0.0.1:8181","role":"down","applied_index":12,"voter":true,"last_contact_ms":null},` +
		`{"id":"node-3","http_addr":"127.0.0.1:8082","cluster_addr":"127.0.0.1:8182","role":"follower","applied_index":17,"voter":true,"healthy":true,"last_contact_ms":12},` +
		`{"id":"node-4","http_addr":"127.0.0.1:8083","cluster_addr":"127.0.0.1:8183","role":"nonvoter","applied_index":17,"healthy":true,"leaving":true,"last_contact_ms":12}]}`
	answer := func(w http.ResponseWriter, r request) {
		if strings.Contains(r.Path, "node-9") {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"status":404,"detail":"node-9 is not a node of this cluster"}`))
			return
		}
		_, _ = w.Write([]byte(cluster))
	}
	for _, tc := range []struct {
		args []string
		asks string
		code int
		says string
	}{
		{[]string{"status"}, "GET /v1/cluster ", 0, "2 of 3 voters are healthy: none may fail"},
		{[]string{"status", "--json"}, "GET /v1/cluster ", 0, `"last_contact_ms"`},
		{[]string{"add", "node-5", "10.0.0.5:8180"}, `POST /v1/cluster/nodes {"node":"node-5","address":"10.0.0.5:8180","voter":true}`, 0, "node-5 may join from 10.0.0.5:8180"},
		{[]string{"add", "node-5", "10.0.0.5:8180", "--nonvoter"}, `POST /v1/cluster/nodes {"node":"node-5","address":"10.0.0.5:8180","voter":false}`, 0, ""},
		{[]string{"promote", "node-4"}, "POST /v1/cluster/nodes/node-4/promote ", 0, "node-4 is a voter"},
		{[]string{"demote", "node-3"}, "POST /v1/cluster/nodes/node-3/demote ", 0, "node-3 is a non-voter"},
		{[]string{"drain", "node-3"}, "POST /v1/cluster/nodes/node-3/drain ", 0, "node-3 is drained"},
		{[]string{"undrain", "node-3"}, "POST /v1/cluster/nodes/node-3/undrain ", 0, "node-3 delivers again"},
		{[]string{"remove", "node-2"}, "DELETE /v1/cluster/nodes/node-2 ", 0, "node-2 removed"},
		{[]string{"remove", "node-9"}, "DELETE /v1/cluster/nodes/node-9 ", 4, "node-9 is not a node of this cluster"},
		{[]string{"remove", "no/de"}, "", 2, "expected a node ID"},
		{[]string{"transfer-leadership", "node-3"}, `POST /v1/cluster/transfer-leadership {"node":"node-3"}`, 0, "node-3 is the leader"},
		{[]string{"transfer-leadership"}, `POST /v1/cluster/transfer-leadership {}`, 0, "another node is the leader"},
		{[]string{"leave"}, "POST /v1/cluster/leave ", 0, "has left the cluster"},
	} {
		hub := newScriptedHub(t, answer)
		got := run(t, "", append(append([]string{"cluster"}, tc.args...), "--hub", hub.URL)...)
		asked := ""
		for _, r := range hub.requests() {
			asked += r.Method + " " + r.Path + " " + r.Body
		}
		if asked != tc.asks || !strings.Contains(got.out+got.err, tc.says) || got.code != tc.code {
			t.Errorf("%v: asked %q, got %+v", tc.args, asked, got)
		}
	}
}

// A node that the cluster refuses exits with one line, and the cluster keeps working.
func TestARefusedNodeEndsAndSaysWhy(t *testing.T) {
	c := newGrowingCluster(t, 2)
	c.serveNode(0)
	eventually(t, "the first node is ready", func() bool { return isReady(c.urls[0]) })
	config := filepath.Join(c.node(1), "config.yaml")
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(good), "token: a token", "token: another", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-c.serveNode(1):
		log, _ := os.ReadFile(filepath.Join(c.node(1), "quorumhub.log"))
		if last := log[strings.LastIndex(strings.TrimSpace(string(log)), "\n")+1:]; code != 2 || !strings.Contains(string(last), "quorumhub: start: its cluster.token differs from that of node-1") {
			t.Errorf("it exited with %d and said %q", code, last)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not exit")
	}
	if status, _ := c.publish(0, "x"); status/100 != 2 {
		t.Errorf("publishing to the cluster: %d", status)
	}
	if err := os.WriteFile(config, good, 0o600); err != nil {
		t.Fatal(err)
	}
	c.serveNode(1)
	eventually(t, "with the right token it becomes a voter", func() bool { return len(c.votes(1)) == 2 })
}
