package webhook_test

import (
	"fmt"
	"net/http"
	"time"

	"quorumhub/web/gateway/webhook"
)

// A delivery of GitHub, and a forged one.
func ExampleNew() {
	github, err := webhook.New(webhook.Config{Scheme: webhook.SchemeGitHub, Secrets: []string{"It's a Secret to Everybody"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := http.Header{}
	h.Set("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	h.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	h.Set("X-GitHub-Event", "issues")
	d, err := github.Verify(h, []byte("Hello, World!"), time.Now())
	fmt.Println(d.ID, d.Event, err)
	_, err = github.Verify(h, []byte("Goodbye, World!"), time.Now())
	fmt.Println(err)
	// Output:
	// 72d3162e-cc78-11e3-81ab-4c9367dc0958 issues <nil>
	// the signature is not that of any of the secrets over this request
}
