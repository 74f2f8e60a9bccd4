package cli_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/cli"
	"quorumhub/cli/echo"
)

const callSecret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestCallPrintsWhatItSigned compares with the reference request of GEO-Auth.
func TestCallPrintsWhatItSigned(t *testing.T) {
	var got *echo.Received
	server := httptest.NewServer(echo.Handler(echo.Options{Got: func(r *echo.Received) { got = r }}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(callSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	geo := []string{"call", "--sign", "geo", "--key-id", "GEOSystem", "--secret-file", file, "--username", "geo", "--source", "INT", "--target", "HRMS",
		"--expires-by", "1368200000000", "--nonce", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "--base64"}

	result := run(t, "", append(geo, server.URL+"/x?transactionId=10&sequenceId=123&status=COMPLETED")...)
	signed := "transactionId=10&sequenceId=123&status=COMPLETED&geo-username=geo&geo-key-id=GEOSystem&geo-source-system-name=INT&geo-target-system-name=HRMS&geo-expires-by=1368200000000&geo-nonce=3f2504e0-4f89-11d3-9a0c-0305e82c3301"
	if result.code != 0 || !strings.Contains(result.err, "\n"+signed+"\n") || !strings.Contains(result.out, `"method": "GET"`) {
		t.Errorf("GET: got %+v", result)
	}
	if got == nil || !strings.HasSuffix(got.URI, "&geo-signature=wh6qzN8xbkKuVda1qVvY9W8C%2FR12IEjCibULassFZmOs71nU22qSXKnyDik5ZEFGPn15Dm%2BKdg8yq41bjDDulQ%3D%3D") {
		t.Errorf("GET: received %+v", got)
	}
	result = run(t, "transactionId=10&sequenceId=123&status=COMPLETED", append(geo, "-d", "@-", server.URL+"/x")...)
	if result.code != 0 || got.Method != "POST" || got.Body != "transactionId=10&sequenceId=123&status=COMPLETED" ||
		!strings.HasSuffix(got.Headers.Get("Geo-Auth"), ",geo-signature=ZNzDx9n8Dt1MLGhILgbJwV20M8TcqFNEOBXEATZcw50jz7xKX8VJFCMU//TTewKh+0yfYNE/NWkgyfMFoSdN6g==") {
		t.Errorf("POST: got %+v, received %+v", result, got)
	}

	got = nil
	result = run(t, "", "call", "--sign", "rfc9421", "--key-id", "k", "--secret", callSecret, "-d", `{"ID": 1}`, "--dry-run", server.URL+"/x")
	for _, want := range []string{"\"@method\": POST\n", "\"@path\": /x\n", `"@signature-params": ("@method" "@authority" "@path" "@query" "content-digest" "content-type");created=`} {
		if !strings.Contains(result.err, want) {
			t.Errorf("RFC 9421: signed %s, want %q", result.err, want)
		}
	}
	if got != nil || !strings.Contains(result.out, "Content-Type: application/json\r\n") || !strings.HasSuffix(result.out, `{"ID": 1}`) {
		t.Errorf("a dry run sent %v and printed %s", got, result.out)
	}
	for how, name := range map[string]string{"key": "X-Api-Key", "token": "Authorization"} {
		result = run(t, "", "call", "--sign", how, "--token", "qhk_sesame", "-H", "X-A: b", server.URL)
		if !strings.Contains(got.Headers.Get(name), "qhk_sesame") || got.Headers.Get("X-A") != "b" || strings.Contains(result.err, "sesame") {
			t.Errorf("%s: received %v, printed %q", how, got.Headers, result.err)
		}
	}
}

func TestCallTellsWhatWentWrong(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such thing", http.StatusNotFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/gone", http.StatusPermanentRedirect)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{server.URL + "/gone"}, 4, "answered 404 Not Found"},
		{[]string{server.URL + "/broken"}, 3, "answered 502 Bad Gateway"},
		{[]string{"-i", server.URL + "/elsewhere"}, 0, "Location: /gone"},
		{[]string{"http://127.0.0.1:1/"}, 3, "127.0.0.1:1"},
		{[]string{"ftp://h/x"}, 2, "expected http(s)://host/path"},
		{[]string{"-H", "nothing", server.URL}, 2, "expected NAME: VALUE"},
		{[]string{"-d", "@/nonexistent", server.URL}, 2, "--data"},
		{[]string{"--sign", "geo", server.URL}, 2, "needs a key"},
		{[]string{"--sign", "geo", "--key-id", "k", "--secret", "zz", "--secret-encoding", "hex", server.URL}, 2, "the secret is not in hex"},
		{[]string{"--sign", "geo", "--key-id", "k", "--secret", "x", "-d", "x", server.URL + "?a=b"}, 2, "does not cover the query"},
		{[]string{"--sign", "rfc9421", "--key-id", "k", "--private-key", "signedcall_test.go", server.URL}, 2, "not PEM"},
		{[]string{"--sign", "key", server.URL}, 2, "expected --token"},
	} {
		got := run(t, "", append([]string{"call"}, tt.args...)...)
		if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
			t.Errorf("%v: got %+v, want code %d and %q", tt.args, got, tt.code, tt.want)
		}
	}
}

// TestEchoCommand starts it, calls it, and ends it.
func TestEchoCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	errs, out := io.Pipe()
	printed := new(syncBuffer)
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, []string{"echo", "--as", "employee", "--addr", "127.0.0.1:0"}, cli.Streams{In: strings.NewReader(""), Out: printed, Err: out})
		out.Close()
	}()
	line, err := bufio.NewReader(errs).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("got %q, %v", line, err)
	}
	if got := run(t, "", "call", address+"/v2/address?ID=121"); got.code != 0 || !strings.Contains(got.out, "<![CDATA[<GetAddress><ID>121</ID>") {
		t.Errorf("got %+v", got)
	}
	cancel()
	if got := <-code; got != 0 || printed.String() != "GET /v2/address?ID=121  0 bytes\n" {
		t.Errorf("ended with code %d after %q", got, printed)
	}
	if got := run(t, "", "echo", "--status", "99"); got.code != 2 {
		t.Errorf("status 99: got %+v", got)
	}
	if got := run(t, "", "echo", "--file", "/nonexistent"); got.code != 2 {
		t.Errorf("a file that is not there: got %+v", got)
	}
}
