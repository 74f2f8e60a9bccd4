package chaos_test

import (
	"os"
	"testing"

	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }

// unavailable skips a test that needs something of the machine; with CI=true nothing may be skipped.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
