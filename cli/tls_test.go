package cli_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// A callback that requires a client certificate: without a rule for it the verification fails; with one, messages are delivered with the
// certificate. If the rule is removed, the failed attempts name TLS as the reason.
func TestCallbackThatWantsAClientCertificate(t *testing.T) {
	dir := t.TempDir()
	authority, node := filepath.Join(dir, "ca.pem"), func(name string) string { return filepath.Join(dir, "node-1."+name) }
	if got := run(t, "", "cluster", "init-ca", "--dir", dir); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := run(t, "", "cluster", "issue-cert", "--node", "node-1", "--host", "127.0.0.1", "--dir", dir); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	cert, err := tls.LoadX509KeyPair(node("pem"), node("key"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no authority")
	}
	got := make(chan string, 100)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)

	rules := filepath.Join(dir, "tls.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("- {hosts: [127.0.0.1], ca: %q, cert: %q, key: %q}\n", authority, node("pem"), node("key")))
	n, err := hubtest.StartNode(hubtest.Options{Binary: os.Args[0], Settings: hubtest.Settings{"delivery.tls_file": rules}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	sub := n.Subscribe(t, n.TopicURL("news"), s.URL+"/cb")
	n.Publish(t, n.TopicURL("news"), "text/plain", []byte("hello"))
	if body := <-got; body != "hello" {
		t.Errorf("it got %q", body)
	}

	n.Stop(t)
	write(fmt.Sprintf("- {hosts: [127.0.0.1], ca: %q}\n", authority))
	n.Restart(t)
	n.Publish(t, n.TopicURL("news"), "text/plain", []byte("refused"))
	eventually(t, "the attempts show the reason", func() bool {
		r := string(n.Do(t, "GET", "/v1/subscriptions/"+sub.ID+"/attempts", nil, nil).Body)
		return strings.Contains(r, `"reason":"tls"`)
	})

	// quorumhub check finds problems in the files before a start.
	write(fmt.Sprintf("- {hosts: [127.0.0.1], ca: %q, cert: %q, key: %q}\n", authority, node("pem"), authority))
	n.Stop(t)
	for _, args := range [][]string{{"check", "--config", n.ConfigPath}, {"serve", "--config", n.ConfigPath}} {
		if got := run(t, "", args...); got.code == 0 || !strings.Contains(got.err, "delivery.tls_file "+rules+": [0]: cert, key: ") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
