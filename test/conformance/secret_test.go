package conformance_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"quorumhub/test/hubtest"
)

// A subscriber's secret appears in no answer, log or file, in no common encoding.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"log.level": "debug", "storage.flush_interval": "10ms", "hub.verification.attempts": 2}})
	topic := newTopic(t, n)
	const secret = "QwErTy-geheim-0123456789-secret"
	const pendingSecret = "PeNdInG-geheim-9876543210-secret"
	s := hubtest.NewSubscriber(t).OnDelivery(hubtest.Answers(hubtest.Status(500), hubtest.Answer{}))
	n.Subscribe(t, topic, s.Callback("/cb"), "hub.secret", secret)
	hang := hubtest.NewSubscriber(t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Hang: true} })
	pending := n.Request(t, "subscribe", topic, hang.Callback("/cb"), "hub.secret", pendingSecret)
	wantStatus(t, "subscribe", pending, 202)
	refused := n.Request(t, "subscribe", topic, "ftp://x/", "hub.secret", secret)
	tooLong := n.Request(t, "subscribe", topic, s.Callback("/cb"), "hub.secret", secret+string(bytes.Repeat([]byte("x"), 200)))
	n.Publish(t, topic, "text/plain", []byte("x"))
	if d := s.WaitDeliveries(t, 2)[1]; !d.SignedBy(secret) {
		t.Fatalf("not signed: %q", d.Header.Values("X-Hub-Signature"))
	}
	answers := map[string][]byte{"subscribe": pending.Body, "refused": refused.Body, "too long": tooLong.Body}
	for _, path := range []string{"/v1/subscriptions", "/v1/topics", "/v1/cluster", "/health", "/metrics"} {
		answers[path] = n.Do(t, "GET", path, nil, nil).Body
	}
	var item struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	n.GetJSON(t, "/v1/subscriptions", &item)
	for _, i := range item.Items {
		answers["subscription "+i.ID] = n.Do(t, "GET", "/v1/subscriptions/"+i.ID, nil, nil).Body
	}
	n.Kill(t) // the first search covers what a crash leaves behind
	search := func(when string) {
		for name, content := range answers {
			wantNoSecret(t, when+": answer "+name, content, secret, pendingSecret)
		}
		wantNoSecret(t, when+": log", []byte(n.Log()), secret, pendingSecret)
		err := filepath.WalkDir(n.DataDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			wantNoSecret(t, when+": file "+path, content, secret, pendingSecret)
			if info, infoErr := d.Info(); infoErr == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is accessible to other users: %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	search("after a kill")
	n.Restart(t)
	n.Publish(t, topic, "text/plain", []byte("y"))
	if d := s.WaitBody(t, "y"); !d.SignedBy(secret) {
		t.Errorf("after a restart: %q", d.Header.Values("X-Hub-Signature"))
	}
	n.Stop(t)
	search("after a stop")
}

func wantNoSecret(t *testing.T, where string, content []byte, secrets ...string) {
	t.Helper()
	content = lower(content)
	for _, s := range secrets {
		for encoding, form := range map[string]string{
			"in hex":              hex.EncodeToString([]byte(s)),
			"in base64":           base64.StdEncoding.EncodeToString([]byte(s))[:len(s)],
			"half of it in clear": s[:16],
		} {
			if bytes.Contains(content, lower([]byte(form))) {
				t.Errorf("%s contains the secret (%s)", where, encoding)
			}
		}
	}
}

// lower returns a copy with ASCII letters in lower case.
func lower(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}
