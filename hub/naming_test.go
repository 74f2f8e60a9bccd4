package hub_test

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"quorumhub/hub"
)

func TestTopicNames(t *testing.T) {
	n := namer(t)
	for raw, want := range map[string]string{
		"https://hub.example/topics/news":                             "news",
		"HTTPS://HUB.example:443/topics/n%65ws":                       "news",
		"http://10.0.0.1:8080/base/topics/news":                       "news", // an alias of the hub
		"https://hub.example/topics/a/b":                              "a/b",
		"https://hub.example/topics/a%2Fb":                            "a/b",
		"https://hub.example/topics/caf%C3%A9":                        "café",
		"https://hub.example/topics/café":                             "café",
		"https://hub.example/topics/a%20b+c":                          "a b+c",
		"https://hub.example/topics/100%25":                           "100%",
		"https://hub.example/topics/a%252Fb":                          "a%2Fb",
		"https://hub.example/topics/https%3A%2F%2Fexample.com%2Ffeed": "https://example.com/feed",
		"https://hub.example/topic/news":                              "https://hub.example/topic/news",
		"https://hub.example/Topics/news":                             "https://hub.example/Topics/news",
		"http://hub.example/topics/news":                              "http://hub.example/topics/news", // another scheme is another topic
		"https://hub.example.org/topics/news":                         "https://hub.example.org/topics/news",
		"https://example.com/feed?a=b":                                "https://example.com/feed?a=b",
	} {
		if got, err := n.Name("hub.topic", raw); err != nil || got != want {
			t.Errorf("%s is named %q (%v), want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{"news", "", "https://hub.example/topics/", "https://hub.example/topics/a?x=y", "https://hub.example/topics/../x",
		"https://hub.example/topics/a/%2E%2E/b", "https://hub.example/topics/%2e", "https://hub.example/topics//a", "https://hub.example/topics/a/",
		"https://hub.example/topics/a%2F%2Fb", "https://hub.example/topics/a%00b", "https://hub.example/topics/a%0Ab", "https://hub.example/topics/%FF",
		"https://hub.example/topics/" + strings.Repeat("a", hub.MaxTopicNameBytes+1)} {
		name, err := n.Name("hub.topic", raw)
		if err == nil {
			t.Errorf("%s is named %q", raw, name)
			continue
		}
		wantParam(t, err, "hub.topic")
	}
}

// Whatever this machine is called in the hub's URL or in a topic's, it is the same topic.
func TestLoopbackNamesAreTheHub(t *testing.T) {
	for _, base := range []string{"http://127.0.0.1:8080", "http://localhost:8080", "http://LOCALHOST:8080/", "http://[::1]:8080"} {
		for _, publicURL := range []string{base, "https://hub.example"} {
			n, err := hub.NewTopicNamer(publicURL, base)
			if err != nil {
				t.Fatal(err)
			}
			for raw, want := range map[string]string{
				"http://127.0.0.1:8080/topics/news": "news", "http://localhost:8080/topics/news": "news", "http://[::1]:8080/topics/a%20b": "a b",
				"http://Localhost:8080/topics/a/b": "a/b", "http://[0:0:0:0:0:0:0:1]:8080/topics/x": "http://[0:0:0:0:0:0:0:1]:8080/topics/x",
				"http://localhost:8081/topics/news": "http://localhost:8081/topics/news", "http://localhost/topics/news": "http://localhost/topics/news",
				"http://localhost.example:8080/topics/news": "http://localhost.example:8080/topics/news",
			} {
				if got, err := n.Name("hub.topic", raw); err != nil || got != want {
					t.Errorf("hub %s: %s is named %q (%v), want %q", base, raw, got, err, want)
				}
			}
			if got, want := n.URL("news"), strings.TrimSuffix(hub.NormalizeURL(publicURL), "/")+"/topics/news"; got != want {
				t.Errorf("hub %s: the topic's URL is %s, want %s", publicURL, got, want)
			}
		}
	}
}

// A name that is no URL, and a URL that leads to the hub and is none of its topics', are refused with the right URL.
func TestWrongTopicURLsAreRefusedWithTheRightOne(t *testing.T) {
	n := namer(t)
	n.RecogniseOwn(func(u *url.URL) bool { return u.Host == "10.0.0.9:8080" || u.Hostname() == "machine" })
	for raw, right := range map[string]string{
		"news":                               "https://hub.example/topics/news",
		"orders/new":                         "https://hub.example/topics/orders/new",
		"a b é":                              "https://hub.example/topics/a%20b%20%C3%A9",
		"http://10.0.0.9:8080/topics/news":   "https://hub.example/topics/news",
		"http://machine/topics/a%2Fb":        "https://hub.example/topics/a/b",
		"http://machine/news":                "https://hub.example/topics/news",
		"http://10.0.0.9:8080/x/topics/blog": "https://hub.example/topics/news",
		"http://10.0.0.9:8080":               "https://hub.example/topics/news",
	} {
		_, err := n.Name("hub.topic", raw)
		if err == nil {
			t.Errorf("%s is accepted", raw)
			continue
		}
		wantParam(t, err, "hub.topic")
		if !strings.Contains(err.Error(), right) {
			t.Errorf("%s: %v, want a word about %s", raw, err, right)
		}
	}
	for _, c := range []struct {
		raw, host string
		ok        bool
	}{
		{"http://hub.internal:8080/topics/news", "hub.internal:8080", false},
		{"HTTP://Hub.internal:8080/topics/news", "hub.INTERNAL:8080", false},
		{"http://hub.internal:8080/topics/news", "hub.example", true}, // another server's topic
		{"https://hub.example/topics/news", "hub.example", true},
		{"http://10.0.0.1:8080/base/topics/news", "10.0.0.1:8080", true},
		{"https://example.com/feed", "example.com", true}, // one server in front of both
		{"https://example.com", "example.com", true},
		{"news", "hub.example", true},
		{"https://example.com/topics/x", "", true},
	} {
		err := n.CheckHost("hub.url", c.raw, c.host)
		if (err == nil) != c.ok {
			t.Errorf("%s by way of %s: %v", c.raw, c.host, err)
		}
		if err != nil {
			wantParam(t, err, "hub.url")
			if !strings.Contains(err.Error(), "https://hub.example/topics/news") {
				t.Errorf("%s by way of %s: %v", c.raw, c.host, err)
			}
		}
	}
}

// The URLs of other nodes name the same topics as this node's.
func TestMembersURLsNameTheSameTopics(t *testing.T) {
	n := namer(t)
	name := func(raw string) string {
		got, err := n.Name("hub.topic", raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		return got
	}
	const other, local = "http://10.0.0.2:8080/hub/topics/a/b", "http://localhost:9090/topics/a/b"
	if name(other) != other {
		t.Errorf("%s is named %q before anything is known of other nodes", other, name(other))
	}
	before := n.Version()
	n.SetMembers([]string{"http://10.0.0.2:8080/hub/", "http://127.0.0.1:9090", "ftp://no", ""})
	if name(other) != "a/b" || name(local) != "a/b" || name("https://hub.example/topics/a/b") != "a/b" || n.Version() == before {
		t.Errorf("named %q and %q in version %d", name(other), name(local), n.Version())
	}
	if got := n.URL("a/b"); got != "https://hub.example/topics/a/b" {
		t.Errorf("the topic's URL is %s", got)
	}
	if got := n.Bases(); got[0] != "https://hub.example" || !slices.Contains(got, "http://10.0.0.2:8080/hub") || !slices.Contains(got, "http://localhost:9090") {
		t.Errorf("bases %v", got)
	}
	before = n.Version()
	n.SetMembers([]string{"http://10.0.0.2:8080/hub", "http://127.0.0.1:9090"})
	if n.Version() != before {
		t.Error("the same URLs count as a change")
	}
	n.SetMembers(nil)
	if name(other) != other || n.Version() == before {
		t.Errorf("%s is still named %q", other, name(other))
	}
}

func TestTopicURLs(t *testing.T) {
	n := namer(t)
	for name, want := range map[string]string{
		"news":                     "https://hub.example/topics/news",
		"a/b c":                    "https://hub.example/topics/a/b%20c",
		"café?#%":                  "https://hub.example/topics/caf%C3%A9%3F%23%25",
		"https://example.com/feed": "https://example.com/feed",
	} {
		if got := n.URL(name); got != want {
			t.Errorf("%q has the URL %q, want %q", name, got, want)
		}
		if n.Hosted(name) != strings.HasPrefix(want, "https://hub.example/") {
			t.Errorf("Hosted(%q) is %v", name, n.Hosted(name))
		}
	}
}

// Converting any name to its URL and back gives the same name.
func TestTopicNameRoundTrip(t *testing.T) {
	n := namer(t)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z%/?#+ .~é]{1,20}`)).Draw(t, "name")
		hosted, err := n.HostedName("topic", name)
		if err != nil {
			return
		}
		back, err := n.Name("topic", n.URL(hosted))
		if err != nil || back != hosted {
			t.Fatalf("%q has the URL %q, which names %q (%v)", hosted, n.URL(hosted), back, err)
		}
	})
}

func TestNamerRejectsInvalidURLs(t *testing.T) {
	for _, base := range []string{"", "hub.example", "ftp://hub.example", "https://u@hub.example"} {
		if _, err := hub.NewTopicNamer(base); err == nil {
			t.Errorf("%q is accepted as public URL", base)
		}
		if _, err := hub.NewTopicNamer("https://hub.example", base); err == nil {
			t.Errorf("%q is accepted as alias", base)
		}
	}
}

// Names are looked up while the URLs of other nodes change.
func TestNamesWhileMembersChange(t *testing.T) {
	n := namer(t)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if name, err := n.Name("hub.topic", "https://hub.example/topics/a"); err != nil || name != "a" || n.URL("a") != "https://hub.example/topics/a" {
					t.Errorf("named %q (%v)", name, err)
					return
				}
				if name, _ := n.Name("hub.topic", "http://b/topics/a"); name != "a" && name != "http://b/topics/a" {
					t.Errorf("named %q", name)
					return
				}
			}
		})
	}
	for range 200 {
		n.SetMembers([]string{"http://b"})
		n.SetMembers(nil)
	}
	close(done)
	wg.Wait()
}
