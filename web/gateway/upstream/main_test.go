package upstream_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(gatewayEnv) != "" {
		runGateway()
		return
	}
	goleak.VerifyTestMain(m)
}
