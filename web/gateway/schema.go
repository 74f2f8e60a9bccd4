package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"quorumhub/web/gateway/convert"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

// shape is what a JSON Schema says that XML does not: which text is a number or a boolean, and which elements are arrays.
type shape struct {
	types  map[string]convert.Type // by JSON pointer
	arrays []string                // element paths
}

// maxSchemaDepth bounds how deep a schema is looked into; those that refer to themselves have no end.
const maxSchemaDepth = 16

func shapeOf(s *jsonschema.Schema) *shape {
	if s == nil {
		return nil
	}
	out := &shape{types: map[string]convert.Type{}}
	out.add(s, "", nil, maxSchemaDepth)
	return out
}

func (sh *shape) add(s *jsonschema.Schema, pointer string, path []string, depth int) {
	if s == nil || depth == 0 {
		return
	}
	if s.Ref != nil {
		sh.add(s.Ref, pointer, path, depth-1)
	}
	for _, all := range s.AllOf {
		sh.add(all, pointer, path, depth-1)
	}
	if s.Types != nil {
		for _, t := range s.Types.ToStrings() {
			switch t {
			case "number", "integer":
				sh.types[pointer] = convert.Number
			case "boolean":
				sh.types[pointer] = convert.Boolean
			case "string":
				if _, known := sh.types[pointer]; !known {
					sh.types[pointer] = convert.String
				}
			case "array":
				if element := strings.Join(path, "/"); element != "" && !slices.Contains(sh.arrays, element) {
					sh.arrays = append(sh.arrays, element)
				}
			}
		}
	}
	if pointer == "" {
		delete(sh.types, "")
	}
	for name, p := range s.Properties {
		sh.add(p, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), append(path[:len(path):len(path)], name), depth-1)
	}
	items := s.Items2020
	if items == nil {
		items, _ = s.Items.(*jsonschema.Schema)
	}
	sh.add(items, pointer+"/*", path, depth-1)
}

// checkSchema checks the request's body against the version's schema.
func (x *exchange) checkSchema(format registry.Format) error {
	if err := x.hold(); err != nil {
		return err
	}
	text := x.body.held
	switch format {
	case registry.FormatXML:
		o := convert.Options{Limits: x.version.limits(), Types: x.version.asks.types, Arrays: x.version.asks.arrays}
		var out bytes.Buffer
		if err := convert.XMLToJSON(&out, bytes.NewReader(text), o); err != nil {
			return badDocument(err)
		}
		text = out.Bytes()
	case registry.FormatJSON:
		// Duplicate names would be one thing to the schema and another to the service.
		var out bytes.Buffer
		if err := convert.StripJSON(&out, bytes.NewReader(text), convert.Options{Limits: x.version.limits()}); err != nil {
			return badDocument(err)
		}
	default:
		d := fault(415, codeUnsupported, "is missing or neither JSON nor XML; this route checks the body against a schema")
		d.Param = "Content-Type"
		return d
	}
	value, err := registry.DecodeContent(text)
	var number *registry.NumberError
	switch {
	case errors.As(err, &number):
		return invalidBody([]problem.Place{{Pointer: number.Pointer, Detail: number.Detail()}})
	case err != nil:
		return badDocument(err)
	}
	err = x.version.schema.Validate(value)
	var invalid *jsonschema.ValidationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return invalidBody(faultsOf(invalid, nil))
	}
	return fmt.Errorf("check a body against %s: %w", x.version.Body.Schema, err)
}

func badDocument(err error) error {
	var of *convert.Error
	if !errors.As(err, &of) {
		return invalidBody([]problem.Place{{Detail: "is not well-formed"}})
	}
	if of.Reason == convert.TooLarge {
		return tooLarge(0)
	}
	return invalidBody([]problem.Place{{Pointer: of.Pointer, Detail: of.Error()}})
}

// maxFaults bounds what a caller is told of a body.
const maxFaults = 20

// faultsOf lists the innermost failures.
func faultsOf(e *jsonschema.ValidationError, out []problem.Place) []problem.Place {
	if len(out) >= maxFaults {
		return out
	}
	if len(e.Causes) == 0 {
		var pointer strings.Builder
		for _, step := range e.InstanceLocation {
			pointer.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
		}
		return append(out, problem.Place{Pointer: pointer.String(), Detail: e.ErrorKind.LocalizedString(message.NewPrinter(language.English))})
	}
	for _, cause := range e.Causes {
		out = faultsOf(cause, out)
	}
	return out
}
