package bench_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/cli/bench"
	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }

// A short run of the real program measures something, loses nothing and leaves nothing behind.
func TestBenchMeasuresARealHub(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), hubtest.Binary(t), "bench", "--quick", "--duration", "1s",
		"--phases", "publish,fanout", "--json", "--data-dir", dir)
	out, err := cmd.Output()
	if err != nil {
		stderr := ""
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = string(exit.Stderr)
		}
		t.Fatalf("%v\n%s\n%s", err, stderr, out)
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	want := map[string]bool{"publish-128": false, "publish-1": false, "fanout-100": true, "fanout-1": true}
	for _, r := range report.Results {
		delivers, ok := want[r.Phase]
		if !ok {
			t.Errorf("%s was not selected", r.Phase)
			continue
		}
		delete(want, r.Phase)
		if r.Value <= 0 || r.Raw == nil || r.Raw.Median <= 0 || r.Ratio <= 0 || r.Published == 0 {
			t.Errorf("%s measured nothing: %+v", r.Phase, r)
		}
		if delivers && r.Delivered == 0 {
			t.Errorf("%s delivered nothing: %+v", r.Phase, r)
		}
	}
	if len(want) > 0 {
		t.Errorf("not measured: %v", want)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	t.Logf("%s", out)
}

// A cluster is measured with publishers on all nodes, and leaves nothing behind, either.
func TestBenchMeasuresACluster(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), hubtest.Binary(t), "bench", "--nodes", "3", "--duration", "500ms", "--phases", "paced", "--json", "--data-dir", dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(report.Results) == 0 {
		t.Fatal("nothing was measured")
	}
	for _, r := range report.Results {
		if r.Value <= 0 || r.Lost > 0 || !strings.HasSuffix(r.Title, ", 3 nodes") {
			t.Errorf("%+v", r)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// The gateway is measured beside a reverse proxy, without and with credentials, and so is the memory of bodies; nothing is left behind.
func TestBenchMeasuresTheGateway(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), hubtest.Binary(t), "bench", "--quick", "--duration", "500ms",
		"--phases", "gateway-get,gateway-memory", "--json", "--data-dir", dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	compared := map[string]bool{"gateway-get": true, "gateway-get-p50": false, "gateway-get-keyed": true, "gateway-get-keyed-p50": false, "gateway-memory": false}
	for _, r := range report.Results {
		raw, ok := compared[r.Phase]
		if !ok {
			t.Errorf("%s was not selected, or comes twice", r.Phase)
		}
		delete(compared, r.Phase)
		if r.Value <= 0 || r.Problem != "" || raw && (r.Raw == nil || r.Raw.Median <= 0 || r.Ratio <= 0 || r.Latency.Count == 0 || r.RawLatency.Count == 0) {
			t.Errorf("%s measured nothing: %+v", r.Phase, r)
		}
	}
	if len(compared) > 0 {
		t.Errorf("not measured: %v", compared)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
