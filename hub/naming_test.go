package hub_test

import (
	"strings"
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
