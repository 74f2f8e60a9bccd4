package problem_test

import (
	"encoding/json"
	"encoding/xml"
	"net/http/httptest"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

var gateway = []problem.Form{problem.JSON, problem.XML, problem.Text}

func TestPrefer(t *testing.T) {
	for accept, want := range map[string]problem.Form{
		"":                                      problem.JSON,
		"*/*":                                   problem.JSON,
		"image/png":                             problem.JSON,
		"application/json":                      problem.JSON,
		"application/problem+json":              problem.JSON,
		"application/xml":                       problem.XML,
		"text/xml":                              problem.XML,
		"application/problem+xml":               problem.XML,
		"text/plain":                            problem.Text,
		"text/*":                                problem.Text,
		"application/*;q=0.5, */*":              problem.Text,
		"application/json;q=0, */*":             problem.XML,
		"text/xml;q=.2, application/json;q=0.1": problem.XML,
		"application/problem+xml;q=0.1, application/xml, application/json;q=0.5": problem.JSON,
	} {
		if got := problem.Prefer([]string{accept}, gateway...); got != want {
			t.Errorf("%q: got %v, want %v", accept, got, want)
		}
	}
}

// TestForms: all forms tell the same, and what a client sent breaks none of them.
func TestForms(t *testing.T) {
	d := &problem.Details{Status: 400, Code: "invalid", Param: "body", Detail: "does not fit\nthe <schema>\x00",
		Quota:  &hub.QuotaUse{Quota: "topics", Limit: 3, Used: 3},
		Places: []problem.Place{{Pointer: "/a", Detail: "expected <number>\r\n"}, {Pointer: "/b\xff", Detail: "x"}, {Path: "c", Detail: "x"}, {Detail: "x"}}}
	answer := func(accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		d.Write(w, r, "c0ffee", gateway...)
		if w.Code != 400 || w.Header().Get("Vary") != "Accept" {
			t.Errorf("%s: got %d, Vary %q", accept, w.Code, w.Header().Get("Vary"))
		}
		return w
	}

	type document struct {
		XMLName       xml.Name        `xml:"urn:ietf:rfc:7807 problem" json:"-"`
		Type          string          `xml:"type"`
		Title         string          `xml:"title"`
		Status        int             `xml:"status"`
		Detail        string          `xml:"detail"`
		Code          string          `xml:"code"`
		CorrelationID string          `xml:"correlation_id" json:"correlation_id"`
		Errors        []problem.Place `xml:"errors>i"`
	}
	var inJSON, inXML document
	w := answer("application/json")
	if err := json.Unmarshal(w.Body.Bytes(), &inJSON); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: %v", w.Body, err)
	}
	w = answer("application/xml")
	if err := xml.Unmarshal(w.Body.Bytes(), &inXML); err != nil || w.Header().Get("Content-Type") != "application/problem+xml" {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if inJSON.Type != "urn:quorumhub:problem:invalid" || inJSON.Title != "Bad Request" || inJSON.Status != 400 || inJSON.Code != "invalid" ||
		inJSON.Detail != "body: does not fit the <schema> " || inJSON.CorrelationID != "c0ffee" || len(inJSON.Errors) != 4 ||
		inJSON.Errors[0] != (problem.Place{Pointer: "/a", Detail: "expected <number>  "}) || inJSON.Errors[1].Pointer != "/b?" {
		t.Errorf("JSON: got %+v", inJSON)
	}
	inXML.XMLName = inJSON.XMLName
	if inXML.Type != inJSON.Type || inXML.Title != inJSON.Title || inXML.Status != inJSON.Status || inXML.Code != inJSON.Code || inXML.Detail != inJSON.Detail ||
		inXML.CorrelationID != inJSON.CorrelationID || len(inXML.Errors) != 4 || inXML.Errors[0] != inJSON.Errors[0] {
		t.Errorf("XML: got %+v, want %+v", inXML, inJSON)
	}
	w = answer("text/plain")
	if got, want := w.Body.String(), "body: does not fit the <schema> ; /a: expected <number>  ; /b?: x; c: x; and 1 more\n"; got != want {
		t.Errorf("text: got %q, want %q", got, want)
	}
	if strings.Contains(answer("application/json").Body.String(), "quota\":null") {
		t.Error("JSON has a null quota")
	}
}
