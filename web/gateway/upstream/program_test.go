package upstream_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"quorumhub/web/gateway/upstream"
)

// gatewayEnv makes the test binary a gateway in front of the URL that it holds. The gateway prints its address and ends
// with its standard input.
const gatewayEnv = "QUORUMHUB_TEST_GATEWAY_OF"

// patience is how long the test may take on a busy machine.
const patience = 2 * time.Minute

func runGateway() {
	tr := &http.Transport{MaxIdleConnsPerHost: 2048, DisableCompression: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return lean{c}, err
	}}
	p, err := upstream.New(upstream.Config{Name: "echo", URLs: []string{os.Getenv(gatewayEnv)},
		Timeout: patience, ConnectTimeout: patience, IdleTimeout: patience}, tr, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	s := httptest.NewServer(handler(p))
	fmt.Println(s.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// lean is a connection as the hub's guarded client makes them: bodies leave in pieces of 16 KiB, not of 32.
type lean struct{ net.Conn }

func (c lean) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, make([]byte, 16<<10))
}
