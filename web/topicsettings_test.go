package web_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestTopicRetention(t *testing.T) {
	f := newFixture(t)
	f.publish(t, "a/b", "x")
	f.publish(t, "https%3A%2F%2Fexample.org%2Ffeed", "x")
	const plain = `{"name":"a/b","head_offset":1,"first_offset":1,"subscriptions":0`
	for _, c := range []struct{ target, body, answer string }{
		{"/v1/topics/a%2Fb", `{"retention": {"max_age": "36h", "max_bytes": 1000}}`, plain + `,"retention":{"max_age":"36h0m0s","max_bytes":1000}}`},
		{"/v1/topics/a/b", `{"retention": {"max_age": "7d"}}`, plain + `,"retention":{"max_age":"7d"}}`},
		{"/v1/topics/a/b", `{"retention": {"max_age": "0", "max_bytes": 0}}`, plain + `,"retention":{"max_age":"0s","max_bytes":0}}`},
		{"/v1/topics/a/b", `{"retention": {"max_age": null}}`, plain + `}`},
		{"/v1/topics/https%3A%2F%2Fexample.org%2Ffeed", `{"retention": {"max_bytes": 1}}`,
			`{"name":"https://example.org/feed","head_offset":1,"first_offset":1,"subscriptions":0,"retention":{"max_bytes":1}}`},
	} {
		if got := strings.TrimSpace(want(t, f.send(http.MethodPut, c.target, c.body), 200)); got != c.answer {
			t.Errorf("%s %s: %s, want %s", c.target, c.body, got, c.answer)
		}
		if got := strings.TrimSpace(want(t, f.send(http.MethodGet, c.target, ""), 200)); got != c.answer {
			t.Errorf("GET %s: %s, want %s", c.target, got, c.answer)
		}
		if list := want(t, f.send(http.MethodGet, "/v1/topics", ""), 200); !strings.Contains(list, c.answer) {
			t.Errorf("the list %s lacks %s", list, c.answer)
		}
	}
	for _, c := range []struct {
		target, body string
		status       int
		says         string
	}{
		{"/v1/topics/none", `{"retention": {}}`, 404, "none"},
		{"/v1/topics/a/b", ``, 400, "cannot be decoded"},
		{"/v1/topics/a/b", `{}`, 400, "retention: is missing"},
		{"/v1/topics/a/b", `{"retention": {}} {}`, 400, "has data after"},
		{"/v1/topics/a/b", `{"retention": {"max_age": "soon"}}`, 400, "max_age: is"},
		{"/v1/topics/a/b", `{"retention": {"max_age": "-1h"}}`, 400, "max_age: is"},
		{"/v1/topics/a/b", `{"retention": {"max_age": "99999999d"}}`, 400, "max_age: is"},
		{"/v1/topics/a/b", `{"retention": {"max_age": "1ms"}}`, 400, "at least 1s"},
		{"/v1/topics/a/b", `{"retention": {"max_bytes": -1}}`, 400, "max_bytes: is -1"},
		{"/v1/topics/a/b", `{"retention": {"max_bites": 1}}`, 400, "unknown field"},
		{"/v1/topics/", `{"retention": {}}`, 400, "name is empty"},
	} {
		if got := want(t, f.send(http.MethodPut, c.target, c.body), c.status); !strings.Contains(got, c.says) {
			t.Errorf("%s %s: %s, want %q in it", c.target, c.body, got, c.says)
		}
	}
	want(t, f.send(http.MethodGet, "/v1/topics/none", ""), 404)
}
