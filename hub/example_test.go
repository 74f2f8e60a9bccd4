package hub_test

import (
	"fmt"
	"net/url"
	"time"

	"quorumhub/hub"
)

func ExampleNormalizeURL() {
	fmt.Println(hub.NormalizeURL("HTTPS://Subscriber.Example:443/%7ecb?b=%2f"))
	// Output: https://subscriber.example/~cb?b=%2F
}

func ExampleTopicNamer() {
	namer, err := hub.NewTopicNamer("https://hub.example", "http://10.0.0.1:8080")
	if err != nil {
		panic(err)
	}
	hosted, _ := namer.Name("hub.topic", "http://10.0.0.1:8080/topics/orders%2Fnew")
	foreign, _ := namer.Name("hub.topic", "https://blog.example/feed")
	fmt.Println(hosted, namer.URL(hosted))
	fmt.Println(foreign)
	// Output:
	// orders/new https://hub.example/topics/orders/new
	// https://blog.example/feed
}

func ExampleLeasePolicy_Grant() {
	policy := hub.LeasePolicy{Min: time.Minute, Default: 10 * 24 * time.Hour, Max: 30 * 24 * time.Hour}
	for _, sent := range []string{"5", "86400", "999999999999999999999", "", "-1"} {
		seconds, err := policy.Grant(sent)
		fmt.Println(seconds, err)
	}
	// Output:
	// 60 <nil>
	// 86400 <nil>
	// 2592000 <nil>
	// 864000 <nil>
	// 0 hub.lease_seconds: "-1" is not a positive decimal integer; expected seconds such as 864000, or nothing for the hub's default
}

func ExampleParseSubscribe() {
	namer, err := hub.NewTopicNamer("https://hub.example")
	if err != nil {
		panic(err)
	}
	leases := hub.LeasePolicy{Min: time.Minute, Default: 24 * time.Hour, Max: 30 * 24 * time.Hour}
	form := url.Values{
		"hub.mode":             {"subscribe"},
		"hub.topic":            {"https://hub.example/topics/news"},
		"hub.callback":         {"https://subscriber.example/cb"},
		"hub.secret":           {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		"hub.signature_scheme": {"standard-webhooks"},
		"hub.hash_algorithms":  {"sha256, sha512"},
	}
	r, err := hub.ParseSubscribe(form, namer, leases)
	if err != nil {
		panic(err)
	}
	fmt.Println(r.Topic, r.LeaseSeconds, r.Scheme, r.Signature, len(hub.WebhookKey(r.Secret)))
	// Output: news 86400 standard-webhooks sha512 24
}
