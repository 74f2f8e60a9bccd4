package figures

import (
	"encoding/json"
	"math"
)

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) {
	if !v.Known() || math.IsInf(float64(v), 0) {
		return []byte("null"), nil
	}
	const digits = 1e6
	return json.Marshal(math.Round(float64(v)*digits) / digits)
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*v = Unknown()
		return nil
	}
	var f float64
	err := json.Unmarshal(text, &f)
	*v = Value(f)
	return err
}
