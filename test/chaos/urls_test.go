package chaos_test

import (
	"fmt"
	"strings"
	"testing"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// Nodes that have no public URL in common know each other's: a topic is the same by the URL of any node at any node, even while
// the node whose URL it is is down.
func TestTopicsOfNodesWithoutACommonURL(t *testing.T) {
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	c := chaos.PrepareCluster(t, sites, hubtest.Settings{"http.public_url": nil, "http.alias_urls": nil})
	c.Nodes[1].Settings = c.Nodes[1].Settings.With(hubtest.Settings{"message.max_bytes": "2MiB", "http.alias_urls": []string{"http://hub-b.example/base"}})
	c.Start(t)
	a, b, third := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	names := func(at *hubtest.Node, url string) {
		t.Helper()
		hubtest.Eventually(t, url+" is hosted at "+at.URL, func() error {
			reply := at.PostForm(t, hubtest.Form("hub.mode", "register", "hub.topic", url))
			if reply.Status != 200 && reply.Status != 409 {
				return fmt.Errorf("%v", reply)
			}
			if got := at.Do(t, "GET", "/v1/topics", nil, nil); !strings.Contains(string(got.Body), `"name":"`+url[strings.LastIndexByte(url, '/')+1:]+`"`) {
				return fmt.Errorf("topics at %s: %s", at.URL, got.Body)
			}
			return nil
		})
	}
	for i, at := range c.Nodes {
		for j, base := range []string{a.URL, b.URL, third.URL, "http://hub-b.example/base"} {
			names(at, fmt.Sprintf("%s/topics/probe-%d-%d", base, i, j))
		}
	}

	s := hubtest.NewSubscriber(t)
	news := a.URL + "/topics/news"
	a.Subscribe(t, news, s.Callback("/cb"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*hubtest.Node{b, third} {
		hubtest.Eventually(t, "publish at "+at.URL, func() error {
			reply := at.Do(t, "POST", "/hub?hub.mode=publish&hub.topic="+news, hubtest.Headers("Content-Type", "text/plain"), []byte("at "+at.URL))
			if reply.Status != 200 {
				return fmt.Errorf("%v", reply)
			}
			return nil
		})
		s.WaitBody(t, "at "+at.URL)
	}

	// What should be the same on all nodes, and is not, shows on each of them.
	hubtest.Eventually(t, "the difference shows", func() error {
		if got := third.Do(t, "GET", "/health/ready", nil, nil); !strings.Contains(string(got.Body), "message.max_bytes 2MiB") {
			return fmt.Errorf("%s", got.Body)
		}
		return nil
	})
}
