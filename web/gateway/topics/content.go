package topics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"quorumhub/hub"
	"quorumhub/web/gateway/convert"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

// content is what a topic's messages must be.
type content struct {
	schema  *jsonschema.Schema // nil: it is missing, and nothing is taken
	limits  convert.Limits
	lenient bool // what is wrong is only reported
}

// newContent returns what a policy asks of content; nil: nothing.
func newContent(reg *registry.Registry, b *registry.Body, maxBytes int64) (*content, error) {
	if b == nil || b.Schema == "" {
		return nil, nil //nolint:nilnil // nil means anything
	}
	c := &content{schema: reg.Schemas[b.Schema], lenient: !b.Enforce, limits: convert.Limits{Bytes: maxBytes}}
	if c.schema == nil {
		return c, fmt.Errorf("there is no JSON Schema %q", b.Schema)
	}
	return c, nil
}

// formatOf returns the format that a content type names; "": neither.
func formatOf(contentType string) registry.Format {
	kind, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return ""
	case kind == "application/json", strings.HasSuffix(kind, "+json"):
		return registry.FormatJSON
	case kind == "application/xml", kind == "text/xml", strings.HasSuffix(kind, "+xml"):
		return registry.FormatXML
	}
	return ""
}

// check returns an error for content that the topic does not take.
func (c *content) check(contentType string, body []byte) error {
	if c.schema == nil {
		return hub.Errorf(hub.CodeUnavailable, "this topic's content is checked against a schema that this node lacks; tell its operators")
	}
	if formatOf(contentType) != registry.FormatJSON {
		return &hub.Error{Code: hub.CodeUnsupported, Param: "Content-Type", Message: "is not JSON, which this topic checks against a schema"}
	}
	// Duplicate names would be one thing to the schema and another to a subscriber.
	if err := convert.StripJSON(io.Discard, bytes.NewReader(body), convert.Options{Limits: c.limits}); err != nil {
		return hub.ParamErrorf("body", "is not JSON as this topic takes it: %v", err)
	}
	value, err := registry.DecodeContent(body)
	var number *registry.NumberError
	switch {
	case errors.As(err, &number):
		return hub.ParamErrorf("body", "is not as this topic asks: %s %s", problem.Clip(number.Pointer), number.Detail())
	case err != nil:
		return hub.ParamErrorf("body", "is not JSON")
	}
	err = c.schema.Validate(value)
	var invalid *jsonschema.ValidationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return hub.ParamErrorf("body", "is not as this topic asks: %s", firstFault(invalid))
	}
	return fmt.Errorf("check content against a schema: %w", err)
}

// firstFault describes the first of the innermost failures.
func firstFault(e *jsonschema.ValidationError) string {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	at := "the content"
	if len(e.InstanceLocation) > 0 {
		at = ""
		for _, step := range e.InstanceLocation {
			at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
		}
	}
	return problem.Clip(at) + " " + problem.Clip(e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
}
