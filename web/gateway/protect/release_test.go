package protect_test

import (
	"encoding/json"
	"strings"
	"testing"

	"quorumhub/web/gateway/protect"
)

const person = `{"name":"A","dob":"1990-01-01","address":{"city":"C","street":"S","geo":{"lat":1.50}},
 "ids":[{"kind":"passport","no":"1"},{"kind":"visa"},"x"],"a/b":{"~":1},"notes":null}`

func TestRelease(t *testing.T) {
	for _, c := range []struct {
		pointers string
		want     string
	}{
		{"", `{}`},
		{"/name /dob", `{"name":"A","dob":"1990-01-01"}`},
		{"/address/*", `{"address":{"city":"C","street":"S","geo":{"lat":1.50}}}`},
		{"/address", `{"address":{"city":"C","street":"S","geo":{"lat":1.50}}}`},
		{"/address/geo/lat /address/city", `{"address":{"city":"C","geo":{"lat":1.50}}}`},
		{"/ids/*/kind", `{"ids":[{"kind":"passport"},{"kind":"visa"}]}`},
		{"/ids/0", `{"ids":[{"kind":"passport","no":"1"}]}`},
		{"/ids/2", `{"ids":["x"]}`},
		{"/a~1b/~0", `{"a/b":{"~":1}}`},
		{"/*/city", `{"address":{"city":"C"}}`},
		{"/*/city /address/street", `{"address":{"city":"C","street":"S"}}`},
		{"/notes", `{"notes":null}`},
		{"/Name /name/x /address/city/x /nothing", `{}`},
		{"*", person},
		{"/name *", person},
	} {
		got, err := protect.Release([]byte(person), strings.Fields(c.pointers))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.pointers, got, err, c.want)
		}
	}
	for doc, want := range map[string]string{`[1,{"a":2}]`: `[]`, `"x"`: `null`, ` 1 `: `null`, `{}`: `{}`} {
		if got, err := protect.Release([]byte(doc), []string{"/b"}); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", doc, got, err, want)
		}
	}
	if got, err := protect.Release([]byte(`[1,{"a":2}]`), []string{"/*/a"}); err != nil || string(got) != `[{"a":2}]` {
		t.Errorf("an array: got %s, %v", got, err)
	}
}

func TestDocumentsThatAreNotReleased(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing": ``, "no JSON": `<a/>`, "cut": `{"name":"A"`, "two values": `{} {}`, "no UTF-8": "{\"name\":\"\xff\"}",
		"a key twice":                `{"name":"A","name":"B"}`,
		"a key twice, left out":      `{"x":{"y":1,"y":2},"name":"A"}`,
		"a key twice in other words": `{"name":"A","n\u0061me":"B"}`,
		"deep":                       strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	} {
		got, err := protect.Release([]byte(doc), []string{"/name"})
		wantRefusal(t, name, err, "the payload")
		if got != nil {
			t.Errorf("%s: released %s", name, got)
		}
	}
	if err := protect.CheckPointers([]string{"/a", "name"}); err == nil {
		t.Error("a pointer without a slash is accepted")
	}
	_, err := protect.Release([]byte(`{}`), []string{"name"})
	wantRefusal(t, "a pointer without a slash", err, `"name" is no JSON pointer`)
}

// FuzzRelease: what is released is JSON, is the same when released again, and has nothing that no pointer names.
func FuzzRelease(f *testing.F) {
	f.Add([]byte(person), "/name /ids/*/kind")
	f.Add([]byte(`[[{"a":1}]]`), "/0/*/a")
	f.Fuzz(func(t *testing.T, doc []byte, pointers string) {
		list := strings.Fields(pointers)
		got, err := protect.Release(doc, list)
		if err != nil {
			wantRefusal(t, "fuzz", err, "")
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q by %q became %q", doc, pointers, got)
		}
		if nothing, err := protect.Release(doc, nil); err != nil || len(nothing) > len("null") {
			t.Fatalf("%q by no pointer became %q, %v", doc, nothing, err)
		}
		var all any
		if err := json.Unmarshal(got, &all); err != nil {
			t.Fatal(err)
		}
		if object, ok := all.(map[string]any); ok && !strings.Contains(" "+pointers, " *") && !strings.Contains(pointers, "/*") {
			for key := range object {
				escaped := strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
				if !strings.Contains(strings.NewReplacer("~0", "~", "~1", "/").Replace(pointers), key) && !strings.Contains(pointers, escaped) {
					t.Fatalf("%q by %q shows %q", doc, pointers, key)
				}
			}
		}
	})
}
