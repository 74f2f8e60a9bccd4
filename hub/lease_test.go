package hub_test

import (
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
)

func TestLeaseGrant(t *testing.T) {
	p := hub.LeasePolicy{Min: time.Minute, Default: time.Hour, Max: 24 * time.Hour}
	for sent, want := range map[string]int64{
		"1": 60, "59": 60, "60": 60, "61": 61, "3600": 3600, "0003600": 3600, "86400": 86400, "86401": 86400,
		"9223372036854775807": 86400, "9223372036854775808": 86400, strings.Repeat("9", 1000): 86400, strings.Repeat("0", 1000) + "61": 61,
		"": 3600, "0": 3600, "000": 3600, strings.Repeat("0", 1000): 3600, // no wish
	} {
		if got, err := p.Grant(sent); err != nil || got != want {
			t.Errorf("%.30s is granted %d (%v), want %d", sent, got, err, want)
		}
	}
	for _, sent := range []string{"-1", "-0", "+1", "+0", "0.0", " 1", "1 ", "1.0", "1e3", "0x10", "１", "one", "1h", "1,000", "\x00"} {
		_, err := p.Grant(sent)
		wantParam(t, err, "hub.lease_seconds")
	}
}

func TestLeasePolicyValidate(t *testing.T) {
	ok := hub.LeasePolicy{Min: time.Second, Default: time.Second, Max: time.Second}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range []hub.LeasePolicy{{}, {Min: time.Millisecond, Default: time.Hour, Max: time.Hour}, {Min: 2 * time.Hour, Default: time.Hour, Max: 3 * time.Hour},
		{Min: time.Minute, Default: 2 * time.Hour, Max: time.Hour}} {
		if p.Validate() == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
}
