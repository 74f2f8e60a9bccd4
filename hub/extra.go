package hub

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"quorumhub/hub/hubpb"
)

// Bounds of the extra fields of a subscribe request.
const (
	maxExtraFields = 32
	maxExtraBytes  = 4096
)

// extraFields returns the fields of a subscribe request that are not WebSub's, sorted by name.
func extraFields(form url.Values) ([]ExtraField, error) {
	var out []ExtraField
	size := 0
	for name, values := range form {
		if strings.HasPrefix(name, "hub.") {
			continue
		}
		value := values[len(values)-1]
		size += len(name) + len(value)
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, Errorf(CodeInvalid, "an extra field is not valid UTF-8")
		}
		out = append(out, ExtraField{name, value})
	}
	if len(out) > maxExtraFields || size > maxExtraBytes {
		return nil, Errorf(CodeInvalid, "%d extra fields of %d bytes; expected at most %d fields of %d bytes in total", len(out), size, maxExtraFields, maxExtraBytes)
	}
	slices.SortFunc(out, func(a, b ExtraField) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func extraPB(fields []ExtraField) []*hubpb.ExtraField {
	var out []*hubpb.ExtraField
	for _, f := range fields {
		out = append(out, &hubpb.ExtraField{Name: f.Name, Value: f.Value})
	}
	return out
}

func extraFromPB(fields []*hubpb.ExtraField) []ExtraField {
	var out []ExtraField
	for _, f := range fields {
		out = append(out, ExtraField{f.GetName(), f.GetValue()})
	}
	return out
}
