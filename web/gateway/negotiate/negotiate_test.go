package negotiate_test

import (
	"errors"
	"strings"
	"testing"

	"quorumhub/web/gateway/negotiate"
	"quorumhub/web/problem"
)

var both = []negotiate.Format{negotiate.JSON, negotiate.XML}

func one(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func TestFormats(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, c := range []struct {
		accept, param, sent string
		want                string // the format to convert to and the Content-Type; no format: as it is
	}{
		// No preference: as the service sent it.
		{"", "", "text/xml; charset=utf-8", " text/xml; charset=utf-8"},
		{"*/*", "", "application/json", " application/json"},
		{"application/*", "", "application/vnd.acme+xml", " application/vnd.acme+xml"},
		{"application/json, application/xml", "", "application/xml", " application/xml"},
		// Accept.
		{"application/json", "", "application/xml", "json application/json"},
		{"application/json; version=2", "", "application/xml", "json application/json"},
		{"APPLICATION/JSON;Q=0.5, application/xml;q=0.4", "", "text/xml", "json application/json"},
		{"application/xml", "", "application/json", "xml application/xml"},
		{"text/xml", "", "application/json", "xml text/xml; charset=utf-8"},
		{"text/xml;q=0.5, application/xml", "", "application/json", "xml application/xml"},
		{"application/json;q=0, */*", "", "application/json", "xml application/xml"},
		{"application/json;q=0.1, */*;q=0.9", "", "application/json", "xml application/xml"},
		{browser, "", "application/json", "xml application/xml"},
		// ?format= overrides it.
		{browser, "json", "application/xml", "json application/json"},
		{"application/json", "xml", "application/xml", " application/xml"},
		{"text/csv", "xml", "application/json", "xml application/xml"},
		// What cannot be converted.
		{"", "", "image/png", " image/png"},
		{"image/*, application/json", "", "image/png", " image/png"},
		{"", "", "", " "},
	} {
		choice, err := negotiate.Choose(one(c.accept), one(c.param), both)
		if err != nil {
			t.Errorf("%q, %q: %v", c.accept, c.param, err)
			continue
		}
		got, err := choice.Answer(c.sent)
		if err != nil || string(got.Format)+" "+got.ContentType != c.want {
			t.Errorf("%q, %q for %q: got %+v, %v, want %q", c.accept, c.param, c.sent, got, err, c.want)
		}
	}
	// A route that produces one format converts everything to it.
	choice, err := negotiate.Choose(nil, nil, []negotiate.Format{negotiate.XML})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := choice.Answer("application/json"); err != nil || got.Format != negotiate.XML {
		t.Errorf("an XML route, for JSON: got %+v, %v", got, err)
	}
}

func TestNotAcceptable(t *testing.T) {
	json := []negotiate.Format{negotiate.JSON}
	for _, c := range []struct {
		accept, param, sent string
		produces            []negotiate.Format
		status              int
		want                string
	}{
		{"text/csv", "", "", both, 406, "Accept: names nothing that this route can answer with; expected application/json or application/xml"},
		{"application/xml", "", "", json, 406, "expected application/json"},
		{"*/*;q=0", "", "", both, 406, ""},
		{"application/*;q=0, text/xml;q=0, */*;q=0.1", "", "", json, 406, ""},
		{"", "xml", "", json, 406, "format: "},
		{"", "csv", "", both, 400, `format: is "csv"; expected json or xml`},
		{"", "JSON", "", both, 400, "format: "},
		{"application/json", "", "image/png", both, 406, ""}, // known only once the service has answered
		{"*/*", "json", "image/png", both, 406, ""},
	} {
		choice, err := negotiate.Choose(one(c.accept), one(c.param), c.produces)
		if c.sent != "" && err == nil {
			_, err = choice.Answer(c.sent)
		}
		var p *problem.Details
		if !errors.As(err, &p) || p.Status != c.status || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q: got %v, want %d %q", c.accept, c.param, err, c.status, c.want)
		}
	}
	if _, err := negotiate.Choose(nil, []string{"json", "xml"}, both); err == nil {
		t.Error("two formats at once are accepted")
	}
}

func TestVersion(t *testing.T) {
	for _, c := range []struct{ accept, contentType, want string }{
		{"application/json; version=2", "", "2"},
		{`application/json;version="2.1"`, "", "2.1"},
		{"application/json;version=1;q=0.5, application/xml;version=2", "", "2"},
		{"application/json;version=1;q=0, */*", "application/json; version=3", "3"},
		{"application/json;version=2", "application/json; version=3", "2"},
		{`text/plain;x="a,b/c;version=9,d", application/json;version=4`, "", "4"},
		{"", "application/json; version=3; charset=utf-8", "3"},
		{"*/*", "application/json", ""},
		{"version=2", "version=2", ""},
	} {
		if got := negotiate.Version(one(c.accept), c.contentType); got != c.want {
			t.Errorf("%q, %q: got %q, want %q", c.accept, c.contentType, got, c.want)
		}
	}
}

func TestErrorForms(t *testing.T) {
	if got := problem.Prefer(nil, negotiate.ErrorForms(both)...); got != problem.JSON {
		t.Errorf("got %v, want JSON", got)
	}
	if got := problem.Prefer(nil, negotiate.ErrorForms([]negotiate.Format{negotiate.XML})...); got != problem.XML {
		t.Errorf("got %v, want XML", got)
	}
}

// FuzzAccept: whatever a client accepts, it gets what it accepts or a refusal.
func FuzzAccept(f *testing.F) {
	for _, s := range []string{"*/*", "application/json;q=0.5,text/xml", `a;b="c,d";version=2`, "application/*;q=0", ";;,,", "text/xml; q=1e9"} {
		f.Add(s, "application/json")
	}
	f.Fuzz(func(t *testing.T, accept, sent string) {
		negotiate.Version([]string{accept}, sent)
		choice, err := negotiate.Choose([]string{accept}, nil, both)
		if err != nil {
			return
		}
		got, err := choice.Answer(sent)
		if err != nil {
			return
		}
		format := got.Format
		if format == "" {
			if got.ContentType != sent {
				t.Fatalf("%q goes as it is, as %q", sent, got.ContentType)
			}
			if format, _ = negotiate.Of(sent); format == "" {
				return
			}
		}
		if _, err := negotiate.Choose([]string{accept}, nil, []negotiate.Format{format}); err != nil {
			t.Fatalf("%q gets %s of %q, which it does not accept", accept, format, sent)
		}
	})
}
