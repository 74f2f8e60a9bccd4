package registry

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Change is one difference between two registries.
type Change struct {
	Op    string `json:"op"`    // +, - or ~
	What  string `json:"what"`  // such as service address, version 2
	Field string `json:"field"` // such as timeout; empty: the whole thing
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// String returns the change as one line.
func (c Change) String() string {
	out := c.Op + " " + c.What
	switch {
	case c.Field == "":
		return out
	case c.From == "":
		return out + ": " + c.Field + " " + c.To
	case c.To == "":
		return out + ": no " + c.Field + " (was " + c.From + ")"
	}
	return out + ": " + c.Field + " " + c.From + " → " + c.To
}

// thing is a part of a registry that has a name, with its fields as text.
type thing struct {
	name   string
	fields map[string]string
}

// Diff compares two registries by what they say, not by how it is written. changedSecrets are the names of secrets whose values changed;
// values are not shown. Either registry may lack values of its references.
func Diff(from, to Document, changedSecrets []string) ([]Change, error) {
	old, err := thingsOf(from)
	if err != nil {
		return nil, fmt.Errorf("the registry of the hub %w", err)
	}
	new, err := thingsOf(to)
	if err != nil {
		return nil, err
	}
	before := map[string]map[string]string{}
	for _, t := range old {
		before[t.name] = t.fields
	}
	var out []Change
	kept := map[string]bool{}
	for _, t := range new {
		was, known := before[t.name]
		kept[t.name] = true
		if !known {
			out = append(out, Change{Op: "+", What: t.name})
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(union(was, t.fields))) {
			if was[field] != t.fields[field] {
				out = append(out, Change{Op: "~", What: t.name, Field: field, From: was[field], To: t.fields[field]})
			}
		}
	}
	for _, t := range old {
		if !kept[t.name] {
			out = append(out, Change{Op: "-", What: t.name})
		}
	}
	out = append(out, filesChanged(from.Files, to.Files)...)
	for _, name := range changedSecrets {
		out = append(out, Change{Op: "~", What: "secret " + name})
	}
	return out, nil
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func filesChanged(from, to map[string][]byte) (out []Change) {
	for _, name := range slices.Sorted(maps.Keys(to)) {
		was, known := from[name]
		switch {
		case !known:
			out = append(out, Change{Op: "+", What: "file " + name})
		case !bytes.Equal(was, to[name]):
			out = append(out, Change{Op: "~", What: "file " + name, Field: "content", From: fmt.Sprint(len(was), " bytes"), To: fmt.Sprint(len(to[name]), " bytes")})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, kept := to[name]; !kept {
			out = append(out, Change{Op: "-", What: "file " + name})
		}
	}
	return out
}

// thingsOf lists what a registry consists of. No text: nothing.
func thingsOf(doc Document) ([]thing, error) {
	if len(doc.Text) == 0 {
		return nil, nil
	}
	doc.Secrets = nil // references stay as written, so that no value is shown
	reg, mistakes := ReadDraft(doc)
	if reg == nil {
		return nil, fmt.Errorf("is not understood by this program: %w", mistakes[0])
	}
	var out []thing
	add := func(name string, v any, skip ...string) {
		t := thing{name: name, fields: map[string]string{}}
		flatten(reflect.ValueOf(v), "", skip, t.fields)
		out = append(out, t)
	}
	add("registry", *reg, "Upstreams", "Verifiers", "Sequences", "Trust", "Keys", "Services", "Topics", "Files", "Schemas")
	named(add, "upstream", reg.Upstreams)
	named(add, "verifier", reg.Verifiers)
	named(add, "sequence", reg.Sequences)
	named(add, "trust", reg.Trust, "Roots", "CRL") // they are files
	named(add, "key", reg.Keys)
	for i := range reg.Services {
		s := &reg.Services[i]
		name := "service " + s.Name
		add(name, *s, "Versions", "Name", "Position")
		for j := range s.Versions {
			add(name+", version "+s.Versions[j].Version, s.Versions[j], "Version", "Position")
		}
	}
	for i := range reg.Topics {
		add("topics "+reg.Topics[i].Match, reg.Topics[i], "Match", "Position")
	}
	return out, nil
}

func named[T any](add func(string, any, ...string), kind string, all map[string]T, skip ...string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		add(kind+" "+name, all[name], append(skip, "Name")...)
	}
}

// flatten puts the fields of a value into out, as text. Empty ones are left out.
func flatten(v reflect.Value, path string, skip []string, out map[string]string) {
	switch value := v.Interface().(type) {
	case time.Time:
		if !value.IsZero() {
			out[path] = value.UTC().Format(time.RFC3339)
		}
		return
	case time.Duration:
		if value != 0 {
			out[path] = value.String()
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			flatten(v.Elem(), path, nil, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && !slices.Contains(skip, f.Name) {
				flatten(v.Field(i), join(path, spelling(f.Name)), nil, out)
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			flatten(v.MapIndex(k), join(path, fmt.Sprint(k)), nil, out)
		}
	case reflect.Slice:
		flattenList(v, path, out)
	default:
		if !v.IsZero() {
			out[path] = fmt.Sprint(v.Interface())
		}
	}
}

// flattenList keeps a list of simple values on one line, and gives each other element a number.
func flattenList(v reflect.Value, path string, out map[string]string) {
	var texts []string
	for i := range v.Len() {
		if e := v.Index(i); e.Kind() == reflect.String || e.CanInt() {
			texts = append(texts, fmt.Sprint(e.Interface()))
			continue
		}
		flatten(v.Index(i), fmt.Sprintf("%s[%d]", path, i), nil, out)
	}
	if len(texts) > 0 {
		out[path] = strings.Join(texts, ", ")
	}
}

func join(path, name string) string {
	return cmp.Or(strings.Trim(path+"."+name, "."), name)
}

// spelling returns a field's name as registries spell it: max_body for MaxBody, uri for URI, urls for URLs.
func spelling(name string) string {
	var b strings.Builder
	runes := []rune(strings.ReplaceAll(name, "URLs", "Urls"))
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
