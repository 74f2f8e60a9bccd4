package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	formType = "application/x-www-form-urlencoded"
	// maxFormBytes is the largest form. It has room for 100 topics in one ping.
	maxFormBytes = 256 << 10
	// refusedFormBytes is the largest form that is looked at to answer a caller who was refused already.
	refusedFormBytes = 4 << 10
	// maxFormParams bounds the memory that decoding a form takes.
	maxFormParams = 1000
)

// readForm reads the request's form body of at most limit bytes. Query parameters are never part of it (WebSub 5.1).
func (s *Server) readForm(w http.ResponseWriter, r *http.Request, limit int64) (url.Values, error) {
	if err := checkFormType(r); err != nil {
		return nil, err
	}
	body, err := s.readBody(w, r, limit, hub.Errorf(hub.CodeTooLarge, "body: the form exceeds %d bytes", limit))
	defer body.release()
	if err != nil {
		return nil, err
	}
	return parseForm(string(body.bytes))
}

func checkFormType(r *http.Request) error {
	given := r.Header["Content-Type"]
	if len(given) == 0 {
		return badFormType("is missing; expected " + formType + " with the hub.* parameters in the body")
	}
	kind, _, _ := strings.Cut(given[0], ";")
	if len(given) > 1 || !strings.EqualFold(strings.TrimSpace(kind), formType) {
		return badFormType("is " + problem.Quote(strings.Join(given, ", ")) + "; expected " + formType +
			" (content to publish goes with hub.mode=publish and hub.topic in the query)")
	}
	return nil
}

func badFormType(detail string) error {
	return &problem.Details{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Param: "Content-Type", Detail: detail}
}

// parseForm decodes a form. Unlike url.ParseQuery it names what is wrong, and treats a semicolon as an ordinary character.
func parseForm(body string) (url.Values, error) {
	form := make(url.Values, 8)
	n := 0
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		if n++; n > maxFormParams {
			return nil, badBody("has more than %d parameters", maxFormParams)
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return nil, hub.ParamErrorf(fmt.Sprintf("parameter %d", n), "its name %s has a %% without two hexadecimal digits", problem.Quote(rawName))
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return nil, hub.ParamErrorf(printable(name), "has a %% without two hexadecimal digits; expected a form in %s", formType)
		}
		form[name] = append(form[name], value)
	}
	return form, nil
}

// printable returns a parameter's name in a form fit for an error message.
func printable(name string) string {
	if short, ok := strings.CutPrefix(name, "hub."); ok && short != "" && len(short) <= 40 && strings.Trim(short, "abcdefghijklmnopqrstuvwxyz_[]") == "" {
		return name
	}
	return "parameter " + problem.Quote(name)
}

// publishQuery holds the query parameters of a POST to the hub endpoint.
type publishQuery struct {
	mode, topic   string
	modes, topics int
	badTopic      bool
	batch         string // hub.batch
	batches       int
}

// isBatch reports whether the body is a batch of messages.
func (q *publishQuery) isBatch() (bool, error) {
	switch {
	case q.batches == 0, q.batches == 1 && q.batch == "false":
		return false, nil
	case q.batches == 1 && q.batch == "true":
		return true, nil
	}
	return false, hub.ParamErrorf("hub.batch", "is %s; expected true or false, once", problem.Quote(q.batch))
}

// parseQuery extracts hub.mode, hub.topic and hub.batch from a query and ignores everything else (WebSub 5.1).
func parseQuery(raw string) publishQuery {
	var q publishQuery
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil {
			switch name {
			case "hub.mode":
				q.modes++
				q.mode, _ = url.QueryUnescape(value) // a malformed one is not a mode
			case "hub.topic":
				q.topics++
				topic, err := url.QueryUnescape(value)
				q.topic, q.badTopic = topic, q.badTopic || err != nil
			case "hub.batch":
				q.batches++
				q.batch, _ = url.QueryUnescape(value) // a malformed one is neither true nor false
			}
		}
	}
	return q
}

// topicName returns the name of the only topic in the query. host is the one by which the client has reached the hub.
func (q *publishQuery) topicName(namer *hub.TopicNamer, host string) (string, error) {
	switch {
	case q.modes > 1:
		return "", hub.ParamErrorf("hub.mode", "is given %d times in the query; expected once", q.modes)
	case q.topics > 1:
		return "", hub.ParamErrorf("hub.topic", "is given %d times in the query; expected once", q.topics)
	case q.badTopic:
		return "", hub.ParamErrorf("hub.topic", "has a %% in the query without two hexadecimal digits")
	}
	if err := namer.CheckHost("hub.topic", q.topic, host); err != nil {
		return "", err
	}
	return namer.Name("hub.topic", q.topic)
}
