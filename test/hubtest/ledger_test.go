package hubtest_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

const (
	ledgerTopic = "http://127.0.0.1/topics/t"
	ledgerSub   = "sub"
)

func acked(l *hubtest.Ledger, offset uint64, body string) {
	l.Acknowledged(hubtest.Ack{Topic: ledgerTopic, ID: fmt.Sprintf("7-%d", offset), Offset: offset, Body: []byte(body)})
}

func delivered(l *hubtest.Ledger, id, body string, at time.Time) {
	l.Delivered(ledgerSub, hubtest.Request{
		Method: http.MethodPost, Header: hubtest.Headers("X-Hub-Message-Id", id), Body: []byte(body), At: at,
	})
}

// Each breach of a guarantee is found by its check, and only by that check.
func TestLedgerFindsEachBreach(t *testing.T) {
	start := time.Now()
	tests := map[string]struct {
		write      func(l *hubtest.Ledger)
		breaches   bool
		lost       bool
		order      bool
		gap        bool
		late       bool
		duplicates int
	}{
		"complete, with one repeat": {
			write: func(l *hubtest.Ledger) {
				delivered(l, "7-1", "a", start)
				delivered(l, "7-1", "a", start)
				delivered(l, "7-2", "b", start)
			},
			duplicates: 1,
		},
		"first message lost": {write: func(l *hubtest.Ledger) { delivered(l, "7-2", "b", start) }, lost: true, gap: true},
		"last message lost":  {write: func(l *hubtest.Ledger) { delivered(l, "7-1", "a", start) }, lost: true},
		"out of order":       {write: func(l *hubtest.Ledger) { delivered(l, "7-2", "b", start); delivered(l, "7-1", "a", start) }, order: true, gap: true},
		"wrong content":      {write: func(l *hubtest.Ledger) { delivered(l, "7-1", "a", start); delivered(l, "7-2", "B", start) }, breaches: true},
		"wrong id":           {write: func(l *hubtest.Ledger) { delivered(l, "7-1", "a", start); delivered(l, "8-2", "b", start) }, breaches: true},
		"no id":              {write: func(l *hubtest.Ledger) { delivered(l, "7-1", "a", start); delivered(l, "", "b", start) }, breaches: true, lost: true},
		"one offset, two messages": {write: func(l *hubtest.Ledger) {
			acked(l, 2, "c")
			delivered(l, "7-1", "a", start)
			delivered(l, "7-2", "c", start)
		}, breaches: true},
		"delivery after the end":   {write: func(l *hubtest.Ledger) { l.Ended(ledgerSub, start); delivered(l, "7-1", "a", start.Add(time.Minute)) }, late: true},
		"nothing is due after end": {write: func(l *hubtest.Ledger) { l.Ended(ledgerSub, start) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := hubtest.NewLedger()
			l.Subscribed(ledgerSub, ledgerTopic, 0)
			acked(l, 1, "a")
			acked(l, 2, "b")
			tt.write(l)
			for what, c := range map[string]struct {
				err  error
				want bool
			}{
				"Breaches": {l.Breaches(), tt.breaches}, "AtLeastOnce": {l.AtLeastOnce(), tt.lost}, "Order": {l.Order(), tt.order},
				"Contiguous": {l.Contiguous(), tt.gap}, "NothingAfterEnd": {l.NothingAfterEnd(time.Second), tt.late},
			} {
				if (c.err != nil) != c.want {
					t.Errorf("%s: got %v, want an error: %v", what, c.err, c.want)
				}
			}
			if got := l.Duplicates(); got != tt.duplicates {
				t.Errorf("Duplicates: got %d, want %d", got, tt.duplicates)
			}
		})
	}
}

func TestSettingsAreWrittenAsNestedYAML(t *testing.T) {
	got := hubtest.Settings{"a.b.c": "1s", "a.b.d": true, "a.e": 5, "f": []string{"x", "y"}}.YAML()
	want := "a:\n  b:\n    c: \"1s\"\n    d: true\n  e: 5\nf: [\"x\",\"y\"]\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestParamsKeepTheirOrder(t *testing.T) {
	got := fmt.Sprint(hubtest.Params("b=2&a=1&b=%zz&c&x=a+b%20c"))
	if want := "[{b 2} {a 1} {b %zz} {c } {x a b c}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
