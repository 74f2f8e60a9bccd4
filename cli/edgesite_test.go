package cli_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// The sample for an edge site, as it is but for its address and its directory, delivers to this machine.
func TestEdgeSiteDeliversOnThisMachine(t *testing.T) {
	config, err := filepath.Abs("../configs/edge-site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"QUORUMHUB_HTTP_ADDR=127.0.0.1:0", "QUORUMHUB_DATA_DIR=" + filepath.Join(t.TempDir(), "data")}
	hub, cb := serving(t, config, nil, env), newCallbacks(t, nil)
	// topics.auto_register: the first subscriber makes the topic.
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {hub.url + "/topics/readings"}, "hub.callback": {cb.URL + "/cb"}}
	if status, text := hub.do("POST", "/hub", "", form.Encode()); status != http.StatusAccepted {
		t.Fatalf("subscribe: %d %s", status, text)
	}
	eventually(t, "the subscription is active", func() bool {
		_, text := hub.do("GET", "/v1/subscriptions", "", "")
		return strings.Contains(text, `"active"`)
	})
	query := url.Values{"hub.mode": {"publish"}, "hub.topic": {hub.url + "/topics/readings"}}
	if status, text := hub.do("POST", "/hub?"+query.Encode(), "", "21.5"); status != http.StatusOK {
		t.Fatalf("publish: %d %s", status, text)
	}
	eventually(t, "it is delivered", func() bool {
		cb.mu.Lock()
		defer cb.mu.Unlock()
		return len(cb.got) == 1 && cb.got[0].body == "21.5"
	})
	hub.stop()
}
