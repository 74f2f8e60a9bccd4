package gateway_test

import (
	"os"
	"testing"

	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }
