package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestSummaryShowsFailuresAndSkips(t *testing.T) {
	const log = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: ran: thing 1.0\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: what went wrong\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:1: php is missing\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestL","Output":"    l_test.go:1: in the long version only: X=10\n"}
{"Action":"skip","Package":"p","Test":"TestL"}
{"Action":"output","Package":"p","Test":"TestD","Output":"cut short\n"}
{"Action":"output","Package":"p","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"pass","Package":"q","Elapsed":0.5}
`
	var out strings.Builder
	s := &summary{out: &out, said: map[string][]string{}}
	if err := s.read(strings.NewReader(log)); err != nil {
		t.Fatal(err)
	}
	if s.close(false) {
		t.Error("a failed test is reported as success")
	}
	for _, want := range []string{
		"what went wrong", "cut short", "panic: test timed out", "FAIL\tp\t1.5s", "ok  \tq\t0.5s",
		"ran against the hub: thing 1.0", "skipped: p TestC: c_test.go:1: php is missing", "not run: p TestL: l_test.go:1: in the long version only: X=10\n", "\n1 passed, 2 failed, 1 skipped\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestSummaryResult(t *testing.T) {
	for name, tt := range map[string]struct {
		s    summary
		ci   bool
		want bool
	}{
		"all passed":                 {s: summary{passed: 1}, want: true},
		"one skipped":                {s: summary{passed: 1, skipped: 1}, want: true},
		"one skipped where none may": {s: summary{passed: 1, skipped: 1}, ci: true},
		"one failed":                 {s: summary{passed: 1, failed: 1}},
		"no test ran":                {s: summary{}},
	} {
		tt.s.out = &strings.Builder{}
		if got := tt.s.close(tt.ci); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func TestSummarySplitsRuns(t *testing.T) {
	got := groups([]string{"--", "-race", "./a", "--", "./b"})
	if want := [][]string{{"-race", "./a"}, {"./b"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
