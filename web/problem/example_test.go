package problem_test

import (
	"fmt"
	"net/http/httptest"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Any error of the hub becomes a problem document, or a line of text for clients that do not ask for JSON.
func ExampleDetails_Write() {
	err := hub.ParamErrorf("hub.callback", "is %s; expected an absolute URL", problem.Quote("meter-1"))
	for _, accept := range []string{"text/plain", "application/problem+json"} {
		r := httptest.NewRequest("POST", "/hub", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		problem.Of(err).Write(w, r, "c0ffee")
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 400 hub.callback: is "meter-1"; expected an absolute URL
	// 400 {"type":"urn:quorumhub:problem:invalid","title":"Bad Request","status":400,"detail":"hub.callback: is \"meter-1\"; expected an absolute URL","code":"invalid","param":"hub.callback","correlation_id":"c0ffee"}
}
