package compat_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

var update = flag.Bool("update", false, "write the golden reports")

const fixtureKey = "HUB_SECRET_ENCRYPTION_KEY=0123456789abcdef0123456789abcdef"

// importResult is how an import ended and what it printed.
type importResult struct {
	code     int
	out, err string
}

// runImport runs quorumhub import in the directory of the fixtures.
func runImport(t *testing.T, n *hubtest.Node, env string, args ...string) importResult {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), hubtest.Binary(t), append([]string{"import", "--hub", n.URL}, args...)...)
	cmd.Dir = filepath.Join("testdata", "import")
	cmd.Env = append(os.Environ(), env)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return importResult{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// golden compares a report with its golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "import", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: the report is\n%s\nwant\n%s", name, got, want)
	}
}

// Importing the files of both hubs produces the expected reports; a dry run changes nothing, and repeating
// the import adds nothing.
func TestImportReports(t *testing.T) {
	for _, c := range []struct {
		profile string
		secrets []string
		args    []string
	}{
		{"ballerina", []string{"Kslk30SNF2AChs2", "OIUAShdasoi"}, []string{"--from", "ballerina", "snapshot.json"}},
		{"mosip", []string{"Kslk30SNF2AChs2", "in-clear", "0123456789abcdef"}, []string{"--from", "mosip", "mosip-topics.txt", "mosip-subscribers.txt"}},
	} {
		t.Run(c.profile, func(t *testing.T) {
			n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": c.profile, "topics.auto_register": nil, "hub.lease.default": "24h"}})
			snapshot := func() (out struct {
				Topics        []map[string]string
				Subscriptions []map[string]any
			}) {
				n.GetJSON(t, "/consolidator/state-snapshot", &out)
				return out
			}
			for _, step := range []struct {
				name string
				more []string
			}{{"dry", []string{"--dry-run"}}, {"first", nil}, {"again", nil}, {"json", []string{"--json"}}} {
				got := runImport(t, n, fixtureKey, append(append(slices.Clone(c.args), "--verbose"), step.more...)...)
				if got.code != 4 || !strings.Contains(got.err, "were refused") {
					t.Errorf("%s: exit code %d, %s; want 4 because of the refused records", step.name, got.code, got.err)
				}
				golden(t, c.profile+"-"+step.name+".golden", got.out)
				for _, s := range c.secrets {
					if strings.Contains(got.out+got.err+n.Log(), s) {
						t.Errorf("%s: the output contains a secret", step.name)
					}
				}
				if now := snapshot(); step.name == "dry" && len(now.Topics)+len(now.Subscriptions) > 0 {
					t.Fatalf("the dry run created %+v", now)
				}
			}
			var text strings.Builder
			for _, s := range snapshot().Subscriptions {
				delete(s, "hub")
				delete(s, "SERVER_ID")
				line, err := json.Marshal(s)
				if err != nil {
					t.Fatal(err)
				}
				text.Write(append(line, '\n'))
			}
			golden(t, c.profile+"-state.golden", text.String())
		})
	}
}

// Errors in a file or key are reported before anything is sent.
func TestImportRefusesWrongFiles(t *testing.T) {
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": "mosip"}})
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(filepath.Join("testdata", "import", "snapshot.json"))
	if err != nil {
		t.Fatal(err)
	}
	subscribers, err := os.ReadFile(filepath.Join("testdata", "import", "mosip-subscribers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, env, from, text, want string }{
		{"empty", "", "ballerina", " \n", "is empty"},
		{"cut off", "", "ballerina", string(whole[:len(whole)/2]), "is the file truncated?"},
		{"no JSON", "", "ballerina", "{\"topics\":[]\n,,", "is not valid JSON in line 2"},
		{"another object", "", "ballerina", `{"a":1}`, "lacks topics or subscriptions"},
		{"a list", "", "ballerina", `[]`, "--from mosip"},
		{"topics no list", "", "ballerina", `{"topics":{},"subscriptions":[]}`, "topics is a object"},
		{"two snapshots", "", "ballerina", `{"topics":[],"subscriptions":[]}{}`, "continues after"},
		{"nothing", "", "ballerina", `{"topics":[],"subscriptions":[]}`, "nothing to import"},
		{"a snapshot", "", "mosip", string(whole), "--from ballerina"},
		{"cut off", "", "mosip", string(subscribers[:len(subscribers)-40]), "is the file truncated?"},
		{"a log line", "", "mosip", "[]\nProcessed a total of 1 messages\n", "record 2 is not valid JSON in line 2"},
		{"strangers", "", "mosip", `[{"x":1}]`, "record 1[0] is neither"},
		{"both kinds", "", "mosip", `[{"topic":"a"},{"hubTopic":"a","hubCallback":"b"}]`, "record 1[1] is neither"},
		{"both kinds, then nothing", "", "mosip", "[{\"topic\":\"a\"}]\n[{\"hubTopic\":\"a\",\"hubCallback\":\"b\"}]\n[]", "one file for each Kafka topic"},
		{"no key", "", "mosip", string(subscribers), "is encrypted; expected the key"},
		{"wrong key", "HUB_SECRET_ENCRYPTION_KEY=00000000000000000000000000000000", "mosip", string(subscribers), "cannot be decrypted with the key in HUB_SECRET_ENCRYPTION_KEY"},
		{"short key", "HUB_SECRET_ENCRYPTION_KEY=short", "mosip", string(subscribers), "5 characters; expected a key of 16, 24 or 32 bytes"},
	} {
		got := runImport(t, n, c.env, "--from", c.from, write(c.text))
		if got.code != 2 || !strings.Contains(got.err, c.want) || strings.Count(got.err, "\n") > 1 || got.out != "" {
			t.Errorf("%s (%s): exit code %d, %q%q; want 2 and %q", c.name, c.from, got.code, got.out, got.err, c.want)
		}
		if strings.Contains(got.err, "0000000000000000") {
			t.Errorf("%s: the output contains the key", c.name)
		}
	}
	var topics, subs struct{ Items []any }
	n.GetJSON(t, "/v1/topics", &topics)
	n.GetJSON(t, "/v1/subscriptions", &subs)
	if len(topics.Items)+len(subs.Items) > 0 {
		t.Errorf("something was imported: %v %v", topics, subs)
	}
	if got := runImport(t, n, "", "--from", "ballerina", "--url", n.URL+"/health"); got.code != 2 || !strings.Contains(got.err, "lacks topics or subscriptions") {
		t.Errorf("URL of something else: %+v", got)
	}
	if got := runImport(t, n, "", "--from", "ballerina", "--url", n.URL+"/nothing"); got.code != 3 || !strings.Contains(got.err, "404") {
		t.Errorf("URL that does not exist: %+v", got)
	}
}

// With --verify each callback is asked, and only those that confirm get deliveries.
func TestImportVerifies(t *testing.T) {
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": "ballerina"}})
	willing, unwilling := hubtest.NewSubscriber(t), hubtest.NewSubscriber(t)
	unwilling.OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Status: 404} })
	snapshot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"topics":[{"topic":"t"}],"subscriptions":[{"hubTopic":"t","hubCallback":%q},{"hubTopic":"t","hubCallback":%q}]}`,
			willing.Callback("/cb"), unwilling.Callback("/cb"))
	}))
	defer snapshot.Close()
	got := runImport(t, n, "", "--from", "ballerina", "--url", snapshot.URL, "--verify")
	if got.code != 0 || !strings.Contains(got.out, "subscriptions: 0 created, 0 unchanged, 2 awaiting verification\n") {
		t.Fatalf("%+v", got)
	}
	n.WaitActive(t, "t", willing.Callback("/cb"))
	unwilling.WaitIntent(t, "subscribe", 1)
	raw(t, n, post("/hub?hub.mode=publish&hub.topic=t", `{}`, "Content-Type: application/json"))
	willing.WaitDeliveries(t, 1)
	if unwilling.CountDeliveries() > 0 {
		t.Error("a callback that did not confirm got a delivery")
	}
}

// Import has its own action: permission to manage subscriptions does not include it.
func TestImportNeedsItsAction(t *testing.T) {
	is := newIssuer(t)
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": "ballerina", "auth.mode": "required", "auth.egress.mode": "dev-loopback",
		"auth.file": settingsFile(t, is, "", "rules:\n  - {name: some, may: [admin.view, admin.subscriptions, admin.topics], who: [{role: SOME}]}\n  - {name: all, may: [admin.import], who: [{role: ALL}]}\n")}})
	for role, want := range map[string]int{"SOME": 4, "ALL": 0} {
		if got := runImport(t, n, "", "--from", "mosip", "mosip-topics.txt", "--token", is.token("u", "", role)); got.code != want {
			t.Errorf("%s: %+v, want exit code %d", role, got, want)
		}
	}
	if got := runImport(t, n, "", "--from", "mosip", "mosip-topics.txt"); got.code != 4 {
		t.Errorf("without credentials: %+v", got)
	}
}

// A thousand subscriptions move to three nodes. The importer is killed midway and run again, and a node is killed.
// Afterwards every subscriber gets a published message once, signed with its own secret.
func TestImportIntoACluster(t *testing.T) {
	const count = 1000
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	cluster := chaos.PrepareCluster(t, sites, hubtest.Settings{"hub.profile": "mosip", "hub.lease.default": "24h", "topics.auto_register": nil})
	cluster.Start(t)
	sub := hubtest.NewSubscriber(t)
	sub.OnIntent(func(r hubtest.Request) hubtest.Answer {
		t.Errorf("unexpected verification request: %s", r.URI)
		return hubtest.Answer{Status: 404}
	})
	file := writeSubscribers(t, sub, count)

	killImportMidway(t, cluster.Nodes[1], file)
	again := startImport(t, cluster.Nodes[2].URL, file, "--json")
	cluster.Nodes[1].Kill(t) // the node that the first importer used
	again.wantRest(t, count)

	hubtest.Eventually(t, "one publish", func() error {
		reply, err := cluster.Nodes[0].Send("POST", "/hub?hub.mode=publish&hub.topic=orders", hubtest.Headers("Content-Type", "application/json"), strings.NewReader(`{"n":1}`))
		if err == nil && reply.Status != 200 {
			err = fmt.Errorf("%s", reply)
		}
		return err
	})
	waitSignedDeliveries(t, sub, count)
	var page struct{ Topics, Subscriptions []map[string]any }
	cluster.Nodes[0].GetJSON(t, "/consolidator/state-snapshot", &page)
	if len(page.Subscriptions) != count {
		t.Errorf("%d subscriptions, want %d", len(page.Subscriptions), count)
	}
}

// importedSecret is the secret of the i-th imported subscription.
func importedSecret(i int) string { return fmt.Sprintf("secret-%d", i) }

// writeSubscribers writes a file of count subscriptions as MOSIP's hub stores them, with encrypted secrets.
func writeSubscribers(t *testing.T, sub *hubtest.Subscriber, count int) (file string) {
	t.Helper()
	_, key, _ := strings.Cut(fixtureKey, "=")
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	box, err := cipher.NewGCMWithNonceSize(block, 16)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := func(i int) string {
		iv := fmt.Appendf(nil, "%016d", i)
		return "cipher{" + base64.StdEncoding.EncodeToString(append(box.Seal(nil, iv, []byte(importedSecret(i)), nil), iv...)) + "}"
	}
	records := make([]map[string]any, count)
	for i := range records {
		records[i] = map[string]any{"hubTopic": "orders", "hubCallback": sub.Callback(fmt.Sprintf("/cb/%d", i)), "hubSecret": encrypted(i), "hubLeaseSeconds": "864000",
			"consumerGroup": fmt.Sprintf("orders_group_%d", i)}
	}
	text, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "subscribers")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// runningImport is an import in progress, 20 records at a time.
type runningImport struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

func startImport(t *testing.T, hub, file string, more ...string) *runningImport {
	t.Helper()
	r := &runningImport{}
	r.cmd = exec.CommandContext(t.Context(), hubtest.Binary(t), append([]string{"import", "--from", "mosip", "--hub", hub, "--batch", "20", file}, more...)...)
	r.cmd.Stdout, r.cmd.Stderr, r.cmd.Env = &r.out, &r.err, append(os.Environ(), fixtureKey)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// wantRest waits for the end of an import with --json and asserts that it found some of count subscriptions, as an earlier import left
// them, and created all others.
func (r *runningImport) wantRest(t *testing.T, count int) {
	t.Helper()
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, r.err.String())
	}
	var report struct {
		Summary struct {
			Subscriptions struct{ Created, Unchanged int }
		}
	}
	if err := json.Unmarshal(r.out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if s := report.Summary.Subscriptions; s.Created+s.Unchanged != count || s.Created == 0 || s.Unchanged == 0 {
		t.Errorf("the report counts %+v, want some of %d created and the others unchanged", s, count)
	}
}

// killImportMidway runs an import through a proxy that withholds the 20th response, and kills the importer while it
// waits for that response.
func killImportMidway(t *testing.T, n *hubtest.Node, file string) {
	t.Helper()
	target, err := url.Parse(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	stuck, release := make(chan struct{}), make(chan struct{})
	var passed atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if passed.Add(1) == 20 {
			answer := httptest.NewRecorder()
			proxy.ServeHTTP(answer, r)
			if answer.Code != http.StatusOK {
				t.Errorf("the hub answered %d %s", answer.Code, answer.Body)
			}
			close(stuck)
			<-release
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	defer close(release)
	r := startImport(t, front.URL, file)
	select {
	case <-stuck:
	case <-time.After(hubtest.Patience):
		t.Fatal("the importer sent fewer than 20 requests")
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err == nil {
		t.Fatalf("the importer was not killed: %s%s", r.out.String(), r.err.String())
	}
}

// waitSignedDeliveries waits until each of count subscriptions has its message, signed with its own secret.
func waitSignedDeliveries(t *testing.T, sub *hubtest.Subscriber, count int) {
	t.Helper()
	seen := map[string]bool{}
	hubtest.Eventually(t, "a delivery to each subscription", func() error {
		for _, d := range sub.Deliveries() {
			path := d.Path()
			if seen[path] {
				continue
			}
			seen[path] = true
			var i int
			if _, err := fmt.Sscanf(path, "/cb/%d", &i); err != nil {
				t.Fatal(err)
			}
			if !d.SignedBy(importedSecret(i)) || string(d.Body) != `{"n":1}` {
				t.Errorf("%s: %q is not signed with the subscription's secret: %s", path, d.Body, d.Header.Get("X-Hub-Signature"))
			}
		}
		if len(seen) < count {
			return fmt.Errorf("%d of %d so far", len(seen), count)
		}
		return nil
	})
}
