package configs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"quorumhub/configs"
)

// FuzzLoad loads arbitrary files and --set strings. Nothing may panic, a rejection must report at least one problem, and an
// accepted configuration must be valid and survive a round trip through YAML.
func FuzzLoad(f *testing.F) {
	f.Add(configs.Sample(), "delivery.timeout=5s\nhttp.alias_urls=http://a/,http://b")
	f.Add([]byte("hub:\n  lease: {min: 1s, max: 99d}\n"), "")
	f.Add([]byte("a: &x [*x, *x]\n<<: *x\n"), "=\n.=\n..")
	f.Add([]byte("delivery.egress.allow_cidrs:\n- 10.0.0.0/8\n- ::1\n"), "log.level=")
	f.Add([]byte("? {a: b}\n: |\n  x\n---\n!!binary x"), "hub.lease=1")
	f.Fuzz(func(t *testing.T, file []byte, set string) {
		path := filepath.Join(t.TempDir(), "hub.yaml")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		var sets []string
		if set != "" {
			sets = strings.Split(set, "\n")
		}
		c, err := configs.Load(configs.Source{File: path, Set: sets})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a message")
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted by Load, rejected by Validate: %v", err)
		}
		text, err := configs.YAML(c.Settings())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := configs.Load(configs.Source{File: path})
		if err != nil {
			t.Fatalf("the written file is rejected: %v\n%s", err, text)
		}
		if !reflect.DeepEqual(c.Settings(), again.Settings()) {
			t.Fatalf("got %+v\nexpected %+v\n%s", again, c, text)
		}
	})
}
