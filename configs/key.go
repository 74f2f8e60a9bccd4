package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EnvPrefix starts the name of every environment variable that sets a key.
const EnvPrefix = "QUORUMHUB_"

// Key documents one configuration key.
type Key struct {
	// Name is the dotted path: delivery.retry.max_interval.
	Name string
	// Env is the environment variable that sets it: QUORUMHUB_DELIVERY_RETRY_MAX_INTERVAL.
	Env string
	// Type is text, bool, number, duration, size, rate or a list of something.
	Type string
	// List reports whether the key takes several values: a YAML sequence, or a string with commas.
	List bool
	// Default is the built-in value in text form; empty for an empty string or list.
	Default string
	// Expected describes the accepted values.
	Expected string
	// Doc describes the key in one line.
	Doc string
}

// Keys returns the documentation of every key, in the order of the sample file.
func Keys() []Key {
	table := entries()
	keys := make([]Key, len(table))
	for i, e := range table {
		keys[i] = e.Key
	}
	return keys
}

// entry binds a key to its field in Config.
type entry struct {
	Key
	// set parses the given text (or texts, for a list) and stores the value.
	set func(*Config, given) error
	// texts returns the present value in text form, one text per item.
	texts func(*Config) []string
	// value returns the present value for JSON.
	value func(*Config) any
	// hidden values must not be shown.
	hidden bool
	// check returns an error if the present value is invalid.
	check func(*Config) error
}

// given is an unparsed value from a source.
type given struct {
	Texts  []string
	List   bool // it was written as a list
	Origin string
}

// kind describes how values of one type are parsed and formatted.
type kind[T any] struct {
	name   string
	expect string
	// example illustrates the syntax; errors show it, the documentation of a key does not repeat it.
	example string
	parse   func(string) (T, error)
	format  func(T) string
	json    func(T) any
	// hidden values are never shown, not even in errors.
	hidden bool
}

// rule narrows a kind for one key.
type rule[T any] struct {
	expect string
	ok     func(T) bool
}

func between[T cmp.Ordered](k kind[T], lowest, highest T) rule[T] {
	return rule[T]{
		expect: "from " + k.format(lowest) + " to " + k.format(highest),
		ok:     func(v T) bool { return v >= lowest && v <= highest },
	}
}

func atLeast[T cmp.Ordered](k kind[T], lowest T) rule[T] {
	return rule[T]{
		expect: "of at least " + k.format(lowest),
		ok:     func(v T) bool { return v >= lowest },
	}
}

// zeroOrAtLeast is for limits of which 0 means none.
func zeroOrAtLeast[T cmp.Ordered](k kind[T], lowest T) rule[T] {
	var none T
	return rule[T]{
		expect: "0 or of at least " + k.format(lowest),
		ok:     func(v T) bool { return v == none || v >= lowest },
	}
}

func oneOf(values ...string) rule[string] {
	names := slices.Clone(values)
	for i, v := range names {
		if v == "" {
			names[i] = "empty"
		}
	}
	return rule[string]{
		expect: "one of " + strings.Join(names, ", "),
		ok:     func(v string) bool { return slices.Contains(values, v) },
	}
}

func describe(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func scalar[T any](name, def, doc string, k kind[T], r rule[T], field func(*Config) *T) entry {
	expected := describe(k.expect, r.expect)
	if k.example != "" {
		expected += " (" + k.example + ")"
	}
	reject := func(text string) error {
		if k.hidden {
			return fmt.Errorf("got an invalid value (not shown), expected %s", expected)
		}
		return fmt.Errorf("got %q, expected %s", text, expected)
	}
	return entry{
		Key: Key{Name: name, Env: envName(name), Type: k.name, Default: def, Expected: describe(k.expect, r.expect), Doc: doc},
		set: func(c *Config, g given) error {
			if g.List {
				return fmt.Errorf("got a list, expected %s", expected)
			}
			v, err := k.parse(strings.TrimSpace(g.Texts[0]))
			if err != nil {
				return reject(g.Texts[0])
			}
			*field(c) = v
			return nil
		},
		texts:  func(c *Config) []string { return []string{k.format(*field(c))} },
		hidden: k.hidden,
		value:  func(c *Config) any { return k.json(*field(c)) },
		check: func(c *Config) error {
			v := *field(c)
			if _, err := k.parse(k.format(v)); err != nil || r.ok != nil && !r.ok(v) {
				return reject(k.format(v))
			}
			return nil
		},
	}
}

func list[T any](name, doc string, k kind[T], field func(*Config) *[]T) entry {
	expected := "a list, each item " + k.expect
	return entry{
		Key: Key{Name: name, Env: envName(name), Type: "list of " + k.name, List: true, Expected: expected, Doc: doc},
		set: func(c *Config, g given) error {
			var out []T
			for _, text := range g.Texts {
				for item := range strings.SplitSeq(text, ",") {
					if item = strings.TrimSpace(item); item == "" {
						continue
					}
					v, err := k.parse(item)
					if err != nil {
						return fmt.Errorf("got %q, expected %s", item, k.expect)
					}
					out = append(out, v)
				}
			}
			*field(c) = out
			return nil
		},
		texts: func(c *Config) []string {
			texts := make([]string, len(*field(c)))
			for i, v := range *field(c) {
				texts[i] = k.format(v)
			}
			return texts
		},
		value: func(c *Config) any {
			values := make([]any, len(*field(c)))
			for i, v := range *field(c) {
				values[i] = k.json(v)
			}
			return values
		},
		check: func(c *Config) error {
			for _, v := range *field(c) {
				if _, err := k.parse(k.format(v)); err != nil {
					return fmt.Errorf("got %q, expected %s", k.format(v), k.expect)
				}
			}
			return nil
		},
	}
}

// text is a string, described by its rule.
func text() kind[string] {
	return textLike("text", "", func(s string) (string, error) { return s, nil })
}

// textLike is a string that parse puts into canonical form.
func textLike(name, expect string, parse func(string) (string, error)) kind[string] {
	return kind[string]{
		name: name, expect: expect, parse: parse,
		format: func(s string) string { return s },
		json:   func(s string) any { return s },
	}
}

func boolean() kind[bool] {
	return kind[bool]{
		name: "bool", expect: "true or false",
		parse: func(s string) (bool, error) {
			if s != "true" && s != "false" {
				return false, strconv.ErrSyntax
			}
			return s == "true", nil
		},
		format: strconv.FormatBool,
		json:   func(v bool) any { return v },
	}
}

func number() kind[int] {
	return kind[int]{
		name: "number", expect: "a whole number",
		parse: strconv.Atoi, format: strconv.Itoa,
		json: func(v int) any { return v },
	}
}

func duration() kind[time.Duration] {
	return kind[time.Duration]{
		name: "duration", expect: "a duration", example: "such as 250ms, 10s, 1h30m or 10d",
		parse: ParseDuration, format: FormatDuration,
		json: func(v time.Duration) any { return FormatDuration(v) },
	}
}

func size() kind[Bytes] {
	return kind[Bytes]{
		name: "size", expect: "a size", example: "such as 1048576, 512KiB, 1MiB or 1MB",
		parse: ParseBytes, format: Bytes.String,
		json: func(v Bytes) any { return v.String() },
	}
}

func rate() kind[Rate] {
	return kind[Rate]{
		name: "rate", expect: "requests/time, or 0", example: "such as 600/1m, in whole seconds up to 1d",
		parse: ParseRate, format: Rate.String,
		json: func(v Rate) any { return v.String() },
	}
}

func envName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
