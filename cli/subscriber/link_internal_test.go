package subscriber

import "testing"

func TestLinkTarget(t *testing.T) {
	for _, tt := range []struct {
		headers []string
		want    string
	}{
		{[]string{`<http://h/hub>; rel="hub", <http://h/t>; rel="self"`}, "http://h/t"},
		{[]string{`<http://h/t>; rel="self", <http://h/hub>; rel="hub"`}, "http://h/t"},
		{[]string{`<http://h/hub>; rel=hub`, `<http://h/t>;rel=SELF`}, "http://h/t"},
		{[]string{`<http://h/a,b>; title="x, y"; rel="first self"`}, "http://h/a,b"},
		{[]string{`<http://h/hub>; rel="hub"`}, ""},
		{[]string{`<http://h/t`, `http://h/t; rel=self`, ``, `<>`}, ""},
		{nil, ""},
	} {
		if got := linkTarget(tt.headers, "self"); got != tt.want {
			t.Errorf("%v: got %q, expected %q", tt.headers, got, tt.want)
		}
	}
}
