package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

// Three nodes count the uses of a reference as one, a rotation of the keys and the death of a node do not end it, and the publisher can.
func TestContentByReferenceOnThreeNodes(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	with := func(contentType string) http.Header {
		return http.Header{"X-Api-Key": {c.key}, "Content-Type": {contentType}}
	}
	do := func(node int, method, path string, header http.Header, body string, status int) *hubtest.Reply {
		t.Helper()
		reply := c.Nodes[node].Do(t, method, path, header, []byte(body))
		if reply.Status != status {
			t.Fatalf("%s %s: %v, want %d", method, path, reply, status)
		}
		return reply
	}
	large := strings.Repeat("0123456789abcdef", 64<<10) // in parts
	sub := hubtest.NewSubscriber(t)
	do(0, "POST", "/topics/reports", with("text/plain"), "first", 200)
	do(0, "POST", "/hub", with("application/x-www-form-urlencoded"), hubtest.Form("hub.mode", "subscribe", "hub.topic", c.Nodes[0].TopicURL("reports"), "hub.callback", sub.Callback("/cb"), "hub.secret", "s3cret"), 202)
	do(1, "PUT", "/v1/topics/reports", with("application/json"), `{"content": "reference", "share": {"uses": 3, "for": "1h"}}`, 200)
	hubtest.Eventually(t, "the subscription is active", func() error {
		reply, err := c.Nodes[0].Send("GET", "/v1/subscriptions", with(""), nil)
		if err == nil && !strings.Contains(string(reply.Body), `"active"`) {
			err = fmt.Errorf("%s", reply.Body)
		}
		return err
	})
	do(2, "POST", "/topics/reports", with("text/plain"), large, 200)
	delivery := sub.WaitDeliveries(t, 1)[0]
	var doc struct {
		ID, URL string
		Bytes   int
	}
	if err := json.Unmarshal(delivery.Body, &doc); err != nil || doc.Bytes != len(large) || !delivery.SignedBy("s3cret") {
		t.Fatalf("got %.200s, %v", delivery.Body, err)
	}
	path := doc.URL[strings.Index(doc.URL, "/share/"):]

	// Many fetch at once, through all nodes.
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[int]int{}
	for i := range 15 {
		wg.Go(func() {
			reply, err := c.Nodes[i%3].Send("GET", path, nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if reply.Status == 200 && string(reply.Body) != large {
				t.Errorf("%d bytes differ from what was published", len(reply.Body))
			}
			mu.Lock()
			defer mu.Unlock()
			got[reply.Status]++
		})
	}
	wg.Wait()
	if got[200] != 3 || got[404] != 12 {
		t.Errorf("15 fetches of 3 uses: %v", got)
	}

	// A reference outlives the rotation of the keys and the node that made it.
	do(0, "POST", "/topics/reports", with("text/plain"), "third", 200)
	if err := json.Unmarshal(sub.WaitDeliveries(t, 2)[1].Body, &doc); err != nil {
		t.Fatal(err)
	}
	path = doc.URL[strings.Index(doc.URL, "/share/"):]
	do(0, "POST", "/v1/keys/rotate", with("application/json"), `{}`, 200)
	do(1, "GET", path, nil, "", 200)
	c.Kill(t, 0)
	hubtest.Eventually(t, "the others serve", func() error {
		reply, err := c.Nodes[2].Send("GET", path, http.Header{"Range": {"bytes=1-2"}}, nil)
		if err == nil && (reply.Status != 206 || string(reply.Body) != "hi") {
			err = fmt.Errorf("%v %s", reply, reply.Body)
		}
		return err
	})
	do(1, "POST", "/v1/references/revoke", with("application/json"), `{"topic": "reports", "offset": 3}`, 204)
	do(2, "GET", path, nil, "", 404)
}
