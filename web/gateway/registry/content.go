package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	maxNumberBytes = 128
	maxExponent    = 400 // beyond that of any double
)

// NumberError says that content has a number with which no schema is asked to compute.
type NumberError struct {
	Pointer string // JSON pointer to the number
}

func (e *NumberError) Error() string {
	return fmt.Sprintf("%s is a number of more than %d characters, or beyond 1e%d", e.Pointer, maxNumberBytes, maxExponent)
}

// Detail is the error without the pointer.
func (*NumberError) Detail() string {
	return fmt.Sprintf("is not a number of at most %d characters up to 1e%d", maxNumberBytes, maxExponent)
}

// DecodeContent decodes JSON that is to be checked against a schema. Schemas compute with numbers exactly, which takes seconds
// for one of a million digits, and for 1e999999; these are a *NumberError.
func DecodeContent(text []byte) (any, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if pointer, bad := hugeNumber(value); bad {
		return nil, &NumberError{pointer}
	}
	return value, nil
}

func hugeNumber(value any) (pointer string, bad bool) {
	switch v := value.(type) {
	case json.Number:
		return "", !computable(string(v))
	case []any:
		for i, item := range v {
			if below, bad := hugeNumber(item); bad {
				return "/" + strconv.Itoa(i) + below, true
			}
		}
	case map[string]any:
		for name, item := range v {
			if below, bad := hugeNumber(item); bad {
				return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name) + below, true
			}
		}
	}
	return "", false
}

func computable(number string) bool {
	if len(number) > maxNumberBytes {
		return false
	}
	at := strings.IndexAny(number, "eE")
	if at < 0 {
		return true
	}
	exponent, err := strconv.Atoi(number[at+1:])
	return err == nil && exponent <= maxExponent && exponent >= -maxExponent
}
