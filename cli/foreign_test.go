package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hubCommands lists every command that talks to a hub, with arguments that make it send a request.
func hubCommands(t *testing.T) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rules := file("rules.yaml", "rules:\n  - name: r\n    may: [publish]\n    topics: [\"**\"]\n    who: [{scope: s}]\n")
	records := file("records.json", twoRecords)
	out := map[string][]string{}
	for _, line := range []string{
		"publish news --data x", "publish news --data x --idempotency-key k", "publish news --thin", "subscribe news http://127.0.0.1:9/cb",
		"unsubscribe news http://127.0.0.1:9/cb", "listen --topic news --timeout 5s --count 1",
		"topics", "topics --json", "topics set news --max-age 1h", "topics set news --json", "topics register news", "topics deregister news",
		"subscriptions", "subscriptions show s-1", "subscriptions show s-1 --json", "subscriptions pause s-1", "subscriptions resume s-1",
		"subscriptions rewind s-1 --to earliest", "subscriptions sign s-1 --method sha1", "subscriptions end s-1", "subscriptions end s-1 --json",
		"dead-letters", "dead-letters show d-1", "dead-letters replay d-1", "dead-letters replay --all", "dead-letters drop d-1", "dead-letters drop --all",
		"dead-letters export", "auth keys", "auth keys create --name n", "auth keys revoke 0123456789ab", "auth rules", "auth rules remove r",
		"auth explain publish news", "auth whoami", "dump", "keys", "keys rotate", "keys reencrypt", "keys drop 0123456789abcdef", "cluster status", "cluster add node-4 127.0.0.1:9",
		"cluster promote node-2", "cluster demote node-2", "cluster remove node-2", "cluster transfer-leadership", "cluster leave",
	} {
		out[line] = strings.Fields(line)
	}
	out["publish --batch"] = []string{"publish", "news", "--batch", records}
	out["auth rules set"] = []string{"auth", "rules", "set", rules}
	out["apply"] = []string{"apply", rules}
	out["import"] = []string{"import", "--from", "ballerina", records}
	out["backup"] = []string{"backup", "--to", filepath.Join(dir, "backup.tar")}
	return out
}

// A successful answer of a server that is no hub never looks like success: every command says what it missed. Only what WebSub itself
// prescribes (202 for an intent, 204 for a ping) is taken from any hub.
func TestASuccessFromSomethingElseIsAnError(t *testing.T) {
	for what, answer := range map[string]struct {
		status       int
		header, text string
		standard     []string // commands for which this is what WebSub prescribes
	}{
		"a page":           {200, "Content-Type: text/html", "<html>welcome</html>", nil},
		"nothing":          {200, "", "", nil},
		"no content":       {204, "", "", []string{"publish news --thin"}},
		"accepted":         {202, "", "", []string{"subscribe news http://127.0.0.1:9/cb", "unsubscribe news http://127.0.0.1:9/cb"}},
		"another API":      {200, "Content-Type: application/json", `{}`, nil},
		"a list":           {200, "Content-Type: application/json", `[]`, nil},
		"a word":           {200, "Content-Type: text/plain", "ok", nil},
		"created, by name": {201, "Content-Type: application/json", `{"status":"ok"}`, nil},
	} {
		hub := newScriptedHub(t, answering(answer.status, answer.header, answer.text))
		for line, args := range hubCommands(t) {
			if strings.HasPrefix(line, "listen") && answer.status == 202 {
				continue // it waits for the hub to ask for confirmation
			}
			want := 1
			for _, s := range answer.standard {
				if s == line {
					want = 0
				}
			}
			got := run(t, "", append(args, "--hub", hub.URL)...)
			if got.code != want {
				t.Errorf("%s from %s: got %+v, want exit code %d", what, line, got, want)
			}
			if want != 0 && !strings.Contains(got.err, "unexpected response") && line != "backup" {
				t.Errorf("%s from %s: got %q", what, line, got.err)
			}
			for _, claim := range []string{"published", "paused", "resumed", "ended;", "revoked", "removed", "dropped", "set\n", "is a voter", "left the cluster", "own limits"} {
				if want != 0 && strings.Contains(got.out, claim) {
					t.Errorf("%s from %s: claims %q", what, line, got.out)
				}
			}
		}
	}
}

// Every command sends its token with every request, those that copy or follow a response of any length included.
func TestEveryRequestCarriesTheToken(t *testing.T) {
	commands := hubCommands(t)
	for line, args := range commands {
		hub := newScriptedHub(t, answering(400, "", "no"))
		if strings.HasPrefix(line, "listen") {
			args = []string{"listen", "--stream", hub.URL + "/topics/news"}
		}
		got := run(t, "", append(args, "--hub", hub.URL, "--token", "qhk_one")...)
		asked := hub.requests()
		if got.code != 4 || len(asked) == 0 {
			t.Errorf("%s: got %+v after %d requests", line, got, len(asked))
		}
		for _, r := range asked {
			if r.Header.Get("Authorization") != "Bearer qhk_one" {
				t.Errorf("%s: %s %s carries %q", line, r.Method, r.Path, r.Header.Get("Authorization"))
			}
		}
	}
}
