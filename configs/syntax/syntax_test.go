package syntax_test

import (
	"testing"

	"github.com/goccy/go-yaml"

	"quorumhub/configs/syntax"
)

// Each mistake is named where it is, with what is expected there.
func TestEachMistakeIsNamedWhereItIs(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"http:\n  addr: 127.0.0.1:0\n   public_url: x\n", "line 3, column 4: indented by 3 spaces, expected 2 as in line 2"},
		{"http:\n  addr: 127.0.0.1:0\n public_url: x\n", "line 3, column 2: indented by 1 space, expected 0 or 2, as a line above"},
		{"a: 1\n  b: 2\n", "line 2, column 3: indented by 2 spaces, expected 0 as in line 1"},
		{"http:\n\taddr: x\n", "line 2, column 1: indented with a tab, expected spaces"},
		{"rules:\n  - name: r\n   may: [publish]\n", "line 3, column 4: indented by 3 spaces, expected 2 or 4, as a line above"},
		{"# a comment\n\nrules:\n  - name: r\n     may: [publish]\n", "line 5, column 6: indented by 5 spaces, expected 4 as in line 4"},
		{"a: |\n  any\n    thing\nb:\n  c: 1\n   d: 2\n", "line 6, column 4: indented by 3 spaces, expected 2 as in line 5"},
		{"http: addr: x\n", `line 1, column 7: a second key in one line, expected one key a line; a value that contains ": " needs quotes`},
		{"http:\n  addr: \"127\n", `line 2, column 9: a quoted text begins here and does not end, expected another "`},
		{"http:\n  addr: '127\n", "line 2, column 9: a quoted text begins here and does not end, expected another '"},
		{"http:\n  addr: [a\nx: y\n", "line 3, column 1: a list in brackets does not end, expected , or ]"},
		{"http:\n  addr: x\n  addr: y\n", "line 3, column 3: addr is given twice, first in line 2"},
	} {
		var out any
		err := yaml.Unmarshal([]byte(c.text), &out)
		if err == nil {
			t.Errorf("%q is valid", c.text)
			continue
		}
		if got := syntax.Explain([]byte(c.text), err).Error(); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s\n(%s)", c.text, got, c.want, err)
		}
	}
}
