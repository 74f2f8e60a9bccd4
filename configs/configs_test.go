package configs_test

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"quorumhub/configs"
)

var update = flag.Bool("update", false, "rewrite the sample file")

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultMatchesTheKeyList(t *testing.T) {
	c := configs.Default()
	if err := c.Validate(); err != nil {
		t.Fatalf("the defaults are not valid: %v", err)
	}
	settings := c.Settings()
	keys := configs.Keys()
	if len(settings) != len(keys) {
		t.Fatalf("%d settings for %d keys", len(settings), len(keys))
	}
	for i, k := range keys {
		if got := strings.Join(settings[i].Texts, ","); got != k.Default {
			t.Errorf("%s: the key list has %q, the default is %q", k.Name, k.Default, got)
		}
		if k.Doc == "" || k.Expected == "" && k.Type != "text" || k.Type == "" {
			t.Errorf("%s: documentation is missing: %+v", k.Name, k)
		}
	}
	if c.Hub.Lease.Default != 864000*time.Second {
		t.Errorf("the default lease is %s, expected 864000 s", c.Hub.Lease.Default)
	}
}

// Each key must write to its own field: a copied line in the key list would pass every other test.
func TestEveryKeyHasItsOwnField(t *testing.T) {
	values := map[string]string{
		"text": "", "bool": "true", "number": "77", "duration": "7.777s", "size": "77KiB", "rate": "77/7s",
		"list of URL": "https://alias.example/77", "mode": "0677", "list of origins": "https://app77.example", "list of networks": "10.77.0.0/16", "list of hosts": "host77.example", "URL": "https://hub.example/77",
		"proxy":         "http://proxy77.example:3128",
		"list of peers": "n77=127.0.0.1:8180", "list of host=method": "host77.example=sha1", "list of durations": "7.777s",
	}
	special := map[string]string{
		"http.addr": "127.0.0.1:77", "cluster.addr": "127.0.0.1:77", "cluster.node_id": "n77", "data_dir": "/d77",
		"hub.profile": "native", "hub.signature": "sha512", "delivery.egress.mode": "edge", "fetch.egress.mode": "edge",
		"secrets.key_file": "/k77", "auth.mode": "open", "auth.audit": "all", "auth.on_rule_removed": "keep", "auth.egress.mode": "edge", "log.level": "warn", "log.format": "json",
		"hub.lease.min": "7.777s", "hub.lease.default": "11d", "hub.lease.max": "77d",
		"storage.tail_bytes": "77MiB", "retention.max_bytes": "77MiB",
		"delivery.egress.proxy_auth": "u77:p", "fetch.egress.proxy_auth": "u77:p", "auth.egress.proxy_auth": "u77:p", "cluster.token": "t77", "cluster.admission": "listed", "cluster.tls.ca": "/ca77", "cluster.tls.cert": "/cert77", "cluster.tls.key": "/key77",
	}
	for _, k := range configs.Keys() {
		v, ok := special[k.Name]
		if !ok {
			v = values[k.Type]
		}
		for source, src := range map[string]configs.Source{
			"--set":       {Set: []string{k.Name + "=" + v}},
			"environment": {Env: []string{k.Env + "=" + v}},
			"file":        {File: writeFile(t, k.Name+": "+v)},
		} {
			c, err := configs.Load(src)
			if err != nil {
				t.Errorf("%s by %s: %v", k.Name, source, err)
				continue
			}
			for _, s := range c.Settings() {
				got, want := strings.Join(s.Texts, ","), defaultOf(t, s.Key)
				if s.Key == k.Name {
					want = v
				}
				if got != want {
					t.Errorf("%s=%s by %s: %s is %q, expected %q", k.Name, v, source, s.Key, got, want)
				}
			}
		}
	}
}

func defaultOf(t *testing.T, name string) string {
	t.Helper()
	for _, k := range configs.Keys() {
		if k.Name == name {
			return k.Default
		}
	}
	t.Fatalf("no key %s", name)
	return ""
}

func TestLaterSourcesWin(t *testing.T) {
	file := writeFile(t, "delivery:\n  timeout: 2s\n  concurrency: 2\n  retry:\n    max_interval: 2m\ndata_dir: /from/file\n")
	c, err := configs.Load(configs.Source{
		File: file,
		Env:  []string{"HOME=/root", "QUORUMHUB_DELIVERY_TIMEOUT=3s", "QUORUMHUB_DELIVERY_RETRY_MAX_INTERVAL=3m", "QUORUMHUB_HUB=http://127.0.0.1:1/hub"},
		Set:  []string{"delivery.timeout=4s", "delivery.timeout=5s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Delivery.Timeout != 5*time.Second || c.Delivery.Retry.MaxInterval != 3*time.Minute || c.Delivery.Concurrency != 2 || c.DataDir != "/from/file" {
		t.Errorf("got %+v and data_dir %s", c.Delivery, c.DataDir)
	}
	if c.Delivery.CursorFlush != 250*time.Millisecond {
		t.Errorf("an unset key lost its default: %s", c.Delivery.CursorFlush)
	}
}

func TestListsFromSequencesAndCommas(t *testing.T) {
	want := configs.Egress{
		Mode:       "edge",
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::1/128")},
		AllowHosts: []string{"feeds.example.org", "*.lan"},
	}
	for name, src := range map[string]configs.Source{
		"sequence": {File: writeFile(t, "delivery:\n  egress:\n    mode: edge\n    allow_cidrs:\n      - 10.1.2.3/16\n      - fd00::1\n    allow_hosts: [Feeds.example.org, \"*.lan\"]\n")},
		"commas":   {File: writeFile(t, "delivery: {egress: {mode: edge, allow_cidrs: \"10.1.0.0/16, fd00::1\", allow_hosts: \"feeds.example.org,*.lan\"}}\n")},
		"env": {Env: []string{
			"QUORUMHUB_DELIVERY_EGRESS_MODE=edge", "QUORUMHUB_DELIVERY_EGRESS_ALLOW_CIDRS=10.1.0.0/16,fd00::1",
			"QUORUMHUB_DELIVERY_EGRESS_ALLOW_HOSTS=feeds.example.org,*.lan",
		}},
		"set": {Set: []string{"delivery.egress.mode=edge", "delivery.egress.allow_cidrs=10.1.0.0/16,fd00::1,", "delivery.egress.allow_hosts=feeds.example.org,*.lan"}},
	} {
		c, err := configs.Load(src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(c.Delivery.Egress, want) {
			t.Errorf("%s: got %+v", name, c.Delivery.Egress)
		}
	}
	c, err := configs.Load(configs.Source{
		File: writeFile(t, "http: {alias_urls: [http://a.example]}"), Set: []string{"http.alias_urls="},
	})
	if err != nil || len(c.HTTP.AliasURLs) != 0 {
		t.Errorf("an empty list does not override a non-empty one: %v, %v", c, err)
	}
}

func TestMistakesAreReportedWithOriginAndExpectation(t *testing.T) {
	tests := []struct {
		name, file, env, set string
		want                 []string
	}{
		{"misspelt in file", "http:\n  addr: 127.0.0.1:1\ndelivery:\n  timeuot: 5s\n", "", "", []string{"hub.yaml:4: delivery.timeuot: unknown key; did you mean delivery.timeout?"}},
		{"misspelt section", "# x\n\ndelivry:\n  timeout: 5s\n", "", "", []string{"hub.yaml:3: delivry: unknown key; did you mean d"}},
		{"misspelt in environment", "", "QUORUMHUB_DELIVERY_RETRY_MAXINTERVAL=1s", "", []string{"QUORUMHUB_DELIVERY_RETRY_MAXINTERVAL: unknown variable; did you mean QUORUMHUB_DELIVERY_RETRY_MAX_INTERVAL?"}},
		{"misspelt in --set", "", "", "message.maxbytes=1", []string{"--set: message.maxbytes: unknown key; did you mean message.max_bytes?"}},
		{"end of a key", "", "", "auto_register=true", []string{"did you mean topics.auto_register?"}},
		{"section as key", "", "", "hub.lease=5m", []string{"--set: hub.lease: is a section, expected one of its keys: hub.lease.min, hub.lease.default, hub.lease.max"}},
		{"section with a value", "hub:\n  lease: 5m\n", "", "", []string{"hub.yaml:2: hub.lease: is a section"}},
		{"no equals sign", "", "", "delivery.timeout", []string{`--set: got "delivery.timeout", expected key=value`}},
		{"bare number as duration", "delivery:\n  timeout: 5\n", "", "", []string{`hub.yaml:2: delivery.timeout: got "5", expected a duration from 10ms to 5m (such as 250ms, 10s, 1h30m or 10d)`}},
		{"duration out of range", "", "QUORUMHUB_DELIVERY_TIMEOUT=1h", "", []string{`QUORUMHUB_DELIVERY_TIMEOUT: delivery.timeout: got "1h", expected a duration from 10ms to 5m`}},
		{"negative duration", "", "", "retention.max_age=-1h", []string{`--set: retention.max_age: got "-1h", expected a duration of at least 0s`}},
		{"size", "", "", "message.max_bytes=1 GB", []string{`--set: message.max_bytes: got "1000000000", expected a size from 1KiB to 64MiB (such as 1048576`}},
		{"bool", "topics:\n  auto_register: yes\n", "", "", []string{`hub.yaml:2: topics.auto_register: got "yes", expected true or false`}},
		{"enum", "", "", "log.level=loud", []string{`log.level: got "loud", expected one of debug, info, warn, error`}},
		{"unknown profile", "", "", "hub.profile=kafka", []string{`hub.profile: got "kafka"`, "ballerina"}},
		{"list instead of a value", "data_dir: [a]\n", "", "", []string{"hub.yaml:1: data_dir: got a list, expected the path of a directory"}},
		{"mapping instead of a value", "data_dir:\n  a: b\n", "", "", []string{"hub.yaml:1: data_dir: expected a plain value"}},
		{"bad network", "", "", "fetch.egress.allow_cidrs=10.0.0.0/8,10.0.0.300", []string{`fetch.egress.allow_cidrs: got "10.0.0.300", expected a network such as`}},
		{"bad host", "", "", "fetch.egress.allow_hosts=http://x", []string{`got "http://x", expected a host name such as`}},
		{"public URL with query", "", "", "http.public_url=http://h/?a=b", []string{"http.public_url: got", "expected an absolute http(s) URL"}},
		{"relative public URL", "", "", "http.public_url=/hub", []string{"http.public_url: got", "expected an absolute http(s) URL"}},
		{"address without port", "", "", "http.addr=127.0.0.1", []string{`http.addr: got "127.0.0.1", expected host:port`}},
		{"address with a name", "", "", "http.addr=hub.example:80", []string{`http.addr: got "hub.example:80", expected host:port`}},
		{"open to the world", "http:\n  addr: 0.0.0.0:8080\n", "", "", []string{`hub.yaml:2: http.addr: "0.0.0.0:8080" is not a loopback address`, "auth.mode: open"}},
		{"open cluster", "", "", "cluster.addr=[::]:8180", []string{`cluster.addr: "[::]:8180" is not a loopback address`, "cluster.tls.ca"}},
		{"peer without address", "", "", "cluster.peers=node-1", []string{`cluster.peers: got "node-1", expected id=host:port such as`}},
		{"peer with an undialable address", "", "", "cluster.peers=node-1=0.0.0.0:8180", []string{`cluster.peers: got "node-1=0.0.0.0:8180", expected id=host:port`}},
		{"peers without this node", "cluster:\n  node_id: c\n  peers: [\"a=127.0.0.1:1\", \"b=127.0.0.1:2\"]\n", "", "", []string{`hub.yaml:3: cluster.peers: this node's cluster.node_id, "c", is not among the peers`}},
		{"peers without this node's address", "", "", "cluster.peers=a=127.0.0.1:1", []string{"cluster.peers: no peer has this node's cluster.addr, 127.0.0.1:8180"}},
		{"peer twice", "cluster:\n  node_id: a\n  peers: [\"a=127.0.0.1:1\", \"a=127.0.0.1:2\"]\n", "", "", []string{`got "a=127.0.0.1:2", whose ID or address is listed twice`}},
		{"peers on other machines without TLS", "cluster:\n  node_id: a\n  peers: [\"a=127.0.0.1:1\", \"b=10.0.0.2:2\"]\n", "", "", []string{`got "b=10.0.0.2:2", which is not a loopback address`}},
		{"half of TLS", "cluster:\n  node_id: a\n  peers: [\"a=10.0.0.1:1\", \"b=10.0.0.2:2\"]\n  tls: {cert: x}\n", "", "", []string{"cluster.tls.cert: cluster.tls.ca, cluster.tls.cert and cluster.tls.key require each other"}},
		{"min above default", "", "", "hub.lease.min=20d", []string{`hub.lease.default: got "10d", expected at least hub.lease.min (20d)`}},
		{"default above max", "hub:\n  lease:\n    max: 1d\n", "", "", []string{`hub.yaml:3: hub.lease.max: got "1d", expected at least hub.lease.default (10d)`}},
		{"wait out of range", "delivery:\n  retry:\n    schedule: [5s, 31d]\n", "", "", []string{`hub.yaml:3: delivery.retry.schedule: got "31d", expected a duration from 1ms to 30d`}},
		{"too many waits", "", "", "delivery.retry.schedule=" + strings.Repeat("5s,", 17), []string{"delivery.retry.schedule: got 17 durations, expected at most 16"}},
		{"overload wait out of range", "", "", "delivery.retry.overload_wait=-1s", []string{`delivery.retry.overload_wait: got "-1s", expected a duration from 0s to 1d`}},
		{"tail below message", "", "", "storage.tail_bytes=64KiB", []string{"storage.tail_bytes: got", "expected at least message.max_bytes (1MiB)"}},
		{"given twice", "data_dir: a\nhub: {profile: native}\nhub.profile: native\n", "", "", []string{"hub.yaml:3: hub.profile: given twice in this file"}},
		{"broken YAML", "http:\n  addr: \"127.0.0.1\n", "", "", []string{`hub.yaml:2:9: not valid YAML: a quoted text begins here and does not end, expected another "`}},
		{"indented too far", "http:\n  addr: 127.0.0.1:1\n   public_url: http://h\n", "", "", []string{"hub.yaml:3:4: not valid YAML: indented by 3 spaces, expected 2 as in line 2"}},
		{"not a mapping", "- a\n- b\n", "", "", []string{"hub.yaml:1: expected keys and values"}},
		{"second document", "data_dir: a\n---\ndata_dir: b\n", "", "", []string{"a second document starts here"}},
		{"alias", "data_dir: &x a\nsecrets: {key_file: *x}\n", "", "", []string{"data_dir: expected a plain value", "secrets.key_file: expected a plain value"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var src configs.Source
			if tt.file != "" {
				src.File = writeFile(t, tt.file)
			}
			if tt.env != "" {
				src.Env = []string{tt.env}
			}
			if tt.set != "" {
				src.Set = []string{tt.set}
			}
			_, err := configs.Load(src)
			var invalid *configs.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, expected an InvalidError", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got\n%s\nwhich does not contain\n%s", err, w)
				}
			}
			if strings.Count(err.Error(), "\n") != len(invalid.Problems)-1 {
				t.Errorf("not one line per problem:\n%s", err)
			}
		})
	}
}

func TestRetentionMustHoldMessages(t *testing.T) {
	for set, want := range map[string]string{
		"retention.max_bytes=0": "", "retention.max_bytes=2MiB": "",
		"retention.max_bytes=1MiB":   `retention.max_bytes: got "1MiB", which cannot hold messages of message.max_bytes (1MiB); expected at least twice as much, or 0`,
		"retention.max_bytes=100KiB": `retention.max_bytes: got "100KiB", expected a size 0 or of at least 1MiB`,
	} {
		_, err := configs.Load(configs.Source{Set: []string{set}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", set, err, want)
		}
	}
}

// A password that somebody writes into the URL of a proxy is not repeated.
func TestProxyErrorsShowNoPassword(t *testing.T) {
	for _, key := range []string{"delivery", "fetch", "auth"} {
		_, err := configs.Load(configs.Source{Set: []string{key + ".egress.proxy=http://u:s3cret@proxy.example:3128"}})
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "expected the URL of a proxy") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	_, err := configs.Load(configs.Source{
		File: writeFile(t, "nonsense: 1\nlog:\n  level: loud\n"),
		Env:  []string{"QUORUMHUB_NONSENSE=1", "QUORUMHUB_DELIVERY_TIMEOUT=x"},
		Set:  []string{"nonsense=1", "hub.lease.min=99d"},
	})
	var invalid *configs.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	if len(invalid.Problems) != 6 {
		t.Errorf("got %d problems, expected 6:\n%v", len(invalid.Problems), err)
	}
}

func TestValidateChecksValuesSetInCode(t *testing.T) {
	c := configs.Default()
	c.Delivery.Timeout = -time.Second
	c.HTTP.PublicURL = "ftp://x"
	c.Delivery.Concurrency = 0
	err := c.Validate()
	var invalid *configs.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 3 {
		t.Fatalf("got %v, expected three problems", err)
	}
}

func TestUnreadableFileIsNamed(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "gone.yaml"), t.TempDir()} {
		_, err := configs.Load(configs.Source{File: path})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, expected an error that names %s", err, path)
		}
	}
}

func TestEmptySectionsAndKeysKeepTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "http:\n", "http:\n  # addr: x\ndelivery:\n  timeout:\n"} {
		c, err := configs.Load(configs.Source{File: writeFile(t, text)})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if !reflect.DeepEqual(c, configs.Default()) {
			t.Errorf("%q changed a value: %+v", text, c)
		}
	}
}

func TestOpenModeAllowsAnyAddress(t *testing.T) {
	c, err := configs.Load(configs.Source{Set: []string{"http.addr=:8080", "auth.mode=open"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.PublicURL() != "http://127.0.0.1:8080" {
		t.Errorf("public URL is %s", c.PublicURL())
	}
	warnings := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"http.public_url is empty", "auth.mode is open"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("the warnings lack %q:\n%s", want, warnings)
		}
	}
	for _, addr := range []string{"127.0.0.1:8080", "127.8.9.1:1", "[::1]:8080", "localhost:8080"} {
		c, err := configs.Load(configs.Source{Set: []string{"http.addr=" + addr}})
		if err != nil {
			t.Errorf("%s must not require open mode: %v", addr, err)
		} else if w := c.Warnings(); len(w) > 0 {
			t.Errorf("%s: warnings %v", addr, w)
		}
	}
}

func TestPublicURL(t *testing.T) {
	for set, want := range map[string]string{
		"http.addr=127.0.0.1:8080":                    "http://127.0.0.1:8080",
		"http.addr=[::1]:8080":                        "http://[::1]:8080",
		"http.public_url=https://hub.example.org/":    "https://hub.example.org",
		"http.public_url=https://hub.example.org/sub": "https://hub.example.org/sub",
	} {
		c, err := configs.Load(configs.Source{Set: []string{set}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.PublicURL(); got != want {
			t.Errorf("%s: got %s, expected %s", set, got, want)
		}
	}
}

func TestKeyFileFollowsTheDataDirectory(t *testing.T) {
	c := configs.Default()
	c.DataDir = "/var/lib/hub"
	if got := c.KeyFile(); got != "/var/lib/hub/secrets.key" {
		t.Errorf("got %s", got)
	}
	c.Secrets.KeyFile = "/etc/hub.key"
	if got := c.KeyFile(); got != "/etc/hub.key" {
		t.Errorf("got %s", got)
	}
}

func TestSampleMatchesTheKeyListAndTheDefaults(t *testing.T) {
	const path = "quorumhub.yaml"
	if *update {
		if err := os.WriteFile(path, configs.Sample(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(configs.Sample()) {
		t.Errorf("%s differs from the key list; run go test ./configs -update", path)
	}
	c, err := configs.Load(configs.Source{File: path})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, configs.Default()) {
		t.Errorf("the sample does not load as the defaults: %+v", c)
	}
}

func TestYAMLRoundTrip(t *testing.T) {
	want, err := configs.Load(configs.Source{Set: []string{
		"http.alias_urls=http://127.0.0.1:8080,http://127.0.0.1:8081", "delivery.egress.allow_hosts=*.lan", "data_dir=/tmp/with \"quotes\" and: colon #5",
		"retention.max_age=36h", "retention.max_bytes=10000000", "cluster.node_id=true", "secrets.key_file=- x",
	}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := configs.YAML(want.Settings())
	if err != nil {
		t.Fatal(err)
	}
	got, err := configs.Load(configs.Source{File: writeFile(t, string(text))})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nexpected %+v\n%s", got, want, text)
	}
	if _, err := configs.YAML([]configs.Setting{{Key: "nonsense"}}); err == nil {
		t.Error("an unknown key was written")
	}
}

func TestMapForJSON(t *testing.T) {
	data, err := json.Marshal(configs.Default().Map())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"addr":"127.0.0.1:8080"`, `"max_bytes":"10GiB"`, `"min":"5m"`, `"attempts":3`, `"auto_register":false`, `"allow_cidrs":[]`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is missing in %s", want, data)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]configs.Bytes{
		"0": 0, "1048576": 1 << 20, "1MiB": 1 << 20, "512KiB": 512 << 10, "1MB": 1e6, "3 GiB": 3 << 30, "7B": 7, "2kB": 2000, "1TiB": 1 << 40,
	} {
		got, err := configs.ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
		back, err := configs.ParseBytes(got.String())
		if err != nil || back != got {
			t.Errorf("%q: its text form %s parses as %d, %v", text, got, back, err)
		}
	}
	for _, text := range []string{"", "B", "-1", "1.5MiB", "1 X", "9223372036854775808", "8388608TiB", "1MiBMiB"} {
		if got, err := configs.ParseBytes(text); err == nil {
			t.Errorf("%q parses as %d", text, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "10d": 240 * time.Hour, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "0d": 0, "90s": 90 * time.Second,
	} {
		got, err := configs.ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
		back, err := configs.ParseDuration(configs.FormatDuration(got))
		if err != nil || back != got {
			t.Errorf("%q: its text form %s parses as %s, %v", text, configs.FormatDuration(got), back, err)
		}
	}
	for _, text := range []string{"", "5", "d", "-1d", "1d-1h", "1d+1h", "1.5d", "106752d", "106751d24h", "1h1d"} {
		if got, err := configs.ParseDuration(text); err == nil {
			t.Errorf("%q parses as %s", text, got)
		}
	}
}

func TestSignatureHosts(t *testing.T) {
	c, err := configs.Load(configs.Source{Set: []string{"hub.signature=sha512", "hub.signature_hosts=Old.example.org=SHA1, *.example.com=sha384, 127.0.0.1=sha256, [::1]=sha1"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"old.example.org": "sha1", "new.example.org": "sha512", "a.example.com": "sha384", "a.b.example.com": "sha384",
		"example.com": "sha512", "notexample.com": "sha512", "127.0.0.1": "sha256", "::1": "sha1", "": "sha512"} {
		if got := c.Hub.SignatureFor(host); got != want {
			t.Errorf("%s is signed with %s, want %s", host, got, want)
		}
	}
	for _, bad := range []string{"old.example.org", "old.example.org=md5", "=sha1", "*=sha1", "a b=sha1", "http://x/=sha1"} {
		if _, err := configs.Load(configs.Source{Set: []string{"hub.signature_hosts=" + bad}}); err == nil || !strings.Contains(err.Error(), "host=method such as old.example.org=sha1") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// What is in front of a socket decides about the URL; a socket itself has none.
func TestSockets(t *testing.T) {
	for _, tc := range []struct {
		set  []string
		says string // "": it is valid
	}{
		{[]string{"http.addr=unix:/run/hub.sock", "http.public_url=https://hub.example"}, ""},
		{[]string{"http.addr=systemd", "http.public_url=https://hub.example", "auth.mode=open"}, ""},
		{[]string{"http.addr=unix:/run/hub.sock"}, "http.public_url"},
		{[]string{"http.addr=systemd", "auth.mode=open"}, "http.public_url"},
		{[]string{"http.addr=systemd", "http.public_url=https://hub.example"}, "auth.mode"},
		{[]string{"http.addr=unix:hub.sock", "http.public_url=https://hub.example"}, "unix:/path"},
		{[]string{"http.addr=unix:/" + strings.Repeat("x", 103), "http.public_url=https://hub.example"}, "103 bytes"},
		{[]string{"http.socket_mode=0999"}, "0660"},
		{[]string{"http.socket_mode=10777"}, "0660"},
		{[]string{"http.cors_origins=https://app.example.org,http://localhost:3000"}, ""},
		{[]string{"http.cors_origins=*"}, "an origin"},
		{[]string{"http.cors_origins=https://App.example.org"}, "an origin"},
		{[]string{"http.cors_origins=https://app.example.org/x"}, "an origin"},
		{[]string{"http.cors_origins=https://app.example.org:443"}, "an origin"},
	} {
		_, err := configs.Load(configs.Source{Set: tc.set})
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v, want %q", tc.set, err, tc.says)
		}
	}
}
