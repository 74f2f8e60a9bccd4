package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"quorumhub/configs"
)

func TestCheckPrintsTheEffectiveConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(file, []byte("http.addr: 127.0.0.1:0\ndelivery:\n  timeout: 2s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"check", "--config", file, "--set", "message.max_bytes=2MiB"}
	if got := run(t, "", args...); got.code != 0 || got.err != "" || !strings.Contains(got.out, "valid") {
		t.Errorf("got %+v", got)
	}

	got := run(t, "", append(args, "-v")...)
	written := filepath.Join(t.TempDir(), "effective.yaml")
	if err := os.WriteFile(written, []byte(got.out), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := configs.Load(configs.Source{File: file, Set: []string{"message.max_bytes=2MiB"}})
	if err != nil {
		t.Fatal(err)
	}
	have, err := configs.Load(configs.Source{File: written})
	if err != nil {
		t.Fatalf("%v in\n%s", err, got.out)
	}
	if !reflect.DeepEqual(have.Settings(), want.Settings()) {
		t.Errorf("got %s", got.out)
	}

	got = run(t, "", append(args, "--json")...)
	var tree struct {
		Delivery struct {
			Timeout string `json:"timeout"`
		} `json:"delivery"`
		Message struct {
			MaxBytes string `json:"max_bytes"`
		} `json:"message"`
	}
	decode(t, got.out, &tree)
	if tree.Delivery.Timeout != "2s" || tree.Message.MaxBytes != "2MiB" {
		t.Errorf("got %s", got.out)
	}
}

func TestCheckWarnsWithoutFailing(t *testing.T) {
	got := run(t, "", "check", "--set", "http.addr=0.0.0.0:0", "--set", "auth.mode=open")
	if got.code != 0 || !strings.Contains(got.err, "warning: ") {
		t.Errorf("got %+v", got)
	}
}

// TestCheckWarnsOfLoginsThatBrowsersForget: the cookies of logins need https, or this machine.
func TestCheckWarnsOfLoginsThatBrowsersForget(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte("identity_providers: [{name: paste, kind: key}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for public, warns := range map[string]bool{"http://hub.example.org": true, "https://hub.example.org": false, "http://localhost:8080": false} {
		got := run(t, "", "check", "--set", "auth.mode=required", "--set", "auth.file="+file, "--set", "http.public_url="+public)
		if got.code != 0 || strings.Contains(got.err, "people cannot log in") != warns {
			t.Errorf("%s: got %+v", public, got)
		}
	}
}

func TestCheckRefusesOutboundRulesThatMakeNoSense(t *testing.T) {
	for set, want := range map[string]string{
		"delivery.egress.allow_hosts=hooks.corp": "delivery.egress: egress allow_cidrs and allow_hosts have no effect in mode public",
		"fetch.egress.proxy_auth=u:s3cret":       "fetch.egress: egress proxy_auth has no effect without proxy",
	} {
		got := run(t, "", "check", "--set", set)
		if got.code == 0 || !strings.Contains(got.err, want) || strings.Contains(got.err, "s3cret") || strings.Count(got.err, "\n") != 1 {
			t.Errorf("%s: %+v", set, got)
		}
	}
}

func TestCheckReportsEveryProblemOnItsOwnLine(t *testing.T) {
	got := run(t, "", "check", "--set", "a=1", "--set", "b=2", "--set", "log.level=x")
	if got.code != 2 || strings.Count(got.err, "\n") != 3 || got.out != "" {
		t.Errorf("got %+v", got)
	}
}

func TestCheckDocumentsTheKeys(t *testing.T) {
	text, sample := run(t, "", "check", "--keys"), run(t, "", "check", "--sample")
	for _, k := range configs.Keys() {
		if !strings.Contains(text.out, k.Name+" ") || !strings.Contains(text.out, k.Doc) {
			t.Errorf("%s is not documented", k.Name)
		}
	}
	if sample.out != string(configs.Sample()) {
		t.Error("the sample differs")
	}
	var keys []map[string]any
	decode(t, run(t, "", "check", "--keys", "--json").out, &keys)
	if len(keys) != len(configs.Keys()) {
		t.Errorf("got %d keys", len(keys))
	}
}

// completeWith runs bash with the script and returns the completions of a line.
func completeWith(t *testing.T, bash, script, line string) []string {
	t.Helper()
	words := strings.Split(line, " ")
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, "'"+w+"'")
	}
	program := script + "\nCOMP_WORDS=(" + strings.Join(quoted, " ") + ")\nCOMP_CWORD=$((${#COMP_WORDS[@]}-1))\n_quorumhub\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
	out, err := exec.CommandContext(t.Context(), bash, "-c", program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletes(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no bash")
		}
		t.Skip("no bash on this machine")
	}
	script := run(t, "", "completion", "bash").out
	for line, want := range map[string]string{
		"quorumhub pub":                  "publish",
		"quorumhub s":                    "subscriptions",
		"quorumhub publish --th":         "--thin",
		"quorumhub listen --callb":       "--callback-url",
		"quorumhub completion f":         "fish",
		"quorumhub apply --dr":           "--dry-run",
		"quorumhub listen --topic x --h": "--hub",
	} {
		offered := strings.Join(completeWith(t, bash, script, line), " ")
		if !strings.Contains(offered, want) {
			t.Errorf("%q: offered %q, expected %s in it", line, offered, want)
		}
	}
	if offered := completeWith(t, bash, script, "quorumhub publish --data --th"); len(offered) != 0 {
		t.Errorf("a flag is offered as the value of --data: %v", offered)
	}
}

func TestOtherShellsGetEveryCommandAndFlag(t *testing.T) {
	for _, shell := range []string{"zsh", "fish"} {
		got := run(t, "", "completion", shell)
		if got.code != 0 {
			t.Fatalf("got %+v", got)
		}
		for _, want := range []string{"publish", "listen", "demo", "thin", "callback-url", "bash zsh fish"} {
			if !strings.Contains(got.out, want) {
				t.Errorf("%s: %s is missing", shell, want)
			}
		}
		if strings.Count(got.out, "'")%2 != 0 {
			t.Errorf("%s: a quote is not closed", shell)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte(got.out), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), path, "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s rejects its script: %v: %s", shell, err, out)
		}
	}
	if got := run(t, "", "completion", "csh"); got.code != 2 {
		t.Errorf("got %+v", got)
	}
}
