package console

import (
	"net/http"
	"net/url"
	"strings"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// confirm is a page that asks before something is done that cannot be undone. The form that leads to it is sent again, with the name
// typed.
type confirm struct {
	Title string
	// Lead says what will happen, in numbers.
	Lead string
	// Facts are further lines about it.
	Facts []string
	// Name is what has to be typed; empty: nothing.
	Name string
	// Button names what is done.
	Button string
	// Back is the path of the page that the reader came from.
	Back string
	// Danger marks what cannot be undone.
	Danger bool
}

// confirmField is the form field with the typed name, or yes if none is asked for.
const confirmField = "confirm"

// confirmed reports whether a form has been confirmed. Otherwise it has answered with a page that asks, and repeats the form's other
// fields.
func (c *Console) confirmed(w http.ResponseWriter, r *http.Request, section string, ask confirm) bool {
	typed := strings.TrimSpace(r.PostForm.Get(confirmField))
	if typed != "" && (ask.Name == "" || typed == ask.Name) {
		return true
	}
	type field struct{ Name, Value string }
	data := struct {
		confirm
		Fields []field
		Action string
		Wrong  string // what was typed instead
	}{confirm: ask, Action: c.Base + r.URL.EscapedPath(), Wrong: typed}
	if data.Button == "" {
		data.Button = ask.Title
	}
	for name, values := range r.PostForm {
		for _, v := range values {
			if name != confirmField {
				data.Fields = append(data.Fields, field{name, v})
			}
		}
	}
	status := http.StatusOK
	if typed != "" {
		status = http.StatusUnprocessableEntity
	}
	c.write(w, r, status, "confirm", c.frame(r, section, &content{Title: ask.Title, Lead: ask.Lead, Data: data}))
	return false
}

// maxFormBytes bounds a form that brings no content.
const maxFormBytes = 64 << 10

// readForm parses the form of an act. Otherwise it has answered.
func (c *Console) readForm(w http.ResponseWriter, r *http.Request) bool {
	body, release, err := c.Ports.ReadBody(w, r, maxFormBytes)
	if err == nil {
		defer release()
		r.PostForm, err = parseForm(r.Header.Get("Content-Type"), body)
	}
	if err != nil {
		c.fail(w, r, err)
		return false
	}
	return true
}

var errNoForm = &problem.Details{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Param: "Content-Type",
	Detail: "is not that of a form; expected application/x-www-form-urlencoded"}

var errBadForm = hub.ParamErrorf("body", "is no form")

// parseForm reads the fields of a form.
func parseForm(contentType string, body []byte) (url.Values, error) {
	if kind, _, _ := strings.Cut(contentType, ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return nil, errNoForm
	}
	v, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errBadForm
	}
	return v, nil
}
