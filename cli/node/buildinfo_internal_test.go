package node

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What the linker was told wins over what the toolchain saw; without either the version is dev and the commit unknown.
func TestABuildKnowsItsVersionAndCommit(t *testing.T) {
	stamped := &debug.BuildInfo{
		Main:     debug.Module{Version: "v0.0.0-20260102030405-0123456789ab"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}},
	}
	for name, c := range map[string]struct {
		info                    *debug.BuildInfo
		version, commit         string
		wantVersion, wantCommit string
	}{
		"from a repository": {stamped, "", "", "v0.0.0-20260102030405-0123456789ab", "0123456789abcdef (modified)"},
		"linked":            {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "v1.2.3", "fedcba", "v1.2.3", "fedcba"},
		"go install":        {&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "", "", "v1.2.3", "unknown"},
		"neither":           {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "", "", "dev", "unknown"},
		"no information":    {nil, "", "", "dev", "unknown"},
	} {
		b := buildOf(c.info, c.version, c.commit)
		if b.Version != c.wantVersion || b.CommitText() != c.wantCommit || !strings.HasPrefix(b.Go, "go1.") || !strings.Contains(b.Platform, "/") {
			t.Errorf("%s: got %+v, want %s and %s", name, b, c.wantVersion, c.wantCommit)
		}
	}
}

func TestBuildInfoIsAMetric(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newBuildInfo())
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "quorumhub_build_info" || families[0].Metric[0].Gauge.GetValue() != 1 {
		t.Fatalf("got %v, %v", families, err)
	}
	b := ReadBuild()
	want := map[string]string{"version": b.Version, "commit": b.CommitText(), "go": b.Go, "platform": b.Platform}
	for _, l := range families[0].Metric[0].Label {
		if l.GetValue() == "" || want[l.GetName()] != l.GetValue() {
			t.Errorf("label %s is %q, want %q", l.GetName(), l.GetValue(), want[l.GetName()])
		}
		delete(want, l.GetName())
	}
	if len(want) > 0 {
		t.Errorf("labels %v are missing", want)
	}
}
