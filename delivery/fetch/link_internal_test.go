package fetch

import (
	"net/url"
	"reflect"
	"testing"
)

func TestDiscover(t *testing.T) {
	base, _ := url.Parse("https://t.example/dir/feed")
	for _, c := range []struct {
		values []string
		hubs   []string
		self   string
	}{
		{nil, nil, ""},
		{[]string{`<https://h/>; rel="hub", <https://t.example/x>; rel="self"`}, []string{"https://h/"}, "https://t.example/x"},
		{[]string{`<https://h/>;rel=hub`, `<x,y;z>; title="a, \"b\" <c>; rel=hub"; rel="alternate self"`}, []string{"https://h/"}, "https://t.example/dir/x,y;z"},
		{[]string{`<https://a/>; rel=hub,<https://b/>; REL="HUB"`}, []string{"https://a/", "https://b/"}, ""},
		{[]string{`</one>; rel=self`, `</two>; rel=self`}, nil, "https://t.example/one"},
		{[]string{`<https://h/>; rel=next; rel=hub`}, nil, ""},
		{[]string{`<https://h/>; rel=hub; anchor="/other"`}, nil, ""},
		{[]string{`<javascript:alert(1)>; rel=self`, `<ftp://x/>; rel=hub`}, nil, ""},
		{[]string{`<unclosed; rel=hub`, `no brackets; rel=hub`, `<https://h/> junk; rel=hub`, `<https://i/>; ; rel = hub`}, []string{"https://h/", "https://i/"}, ""},
		{[]string{`<https://h/>; rel="hub`}, []string{"https://h/"}, ""},
		{[]string{`<https://h/>; rel="hub\`, `<https://h/>; rel=`, `<https://h/>;`, `<https://h/>; x`, `<>; rel=self`}, []string{"https://h/"}, "https://t.example/dir/feed"},
	} {
		hubs, self := discover(c.values, base)
		if !reflect.DeepEqual(hubs, c.hubs) || self != c.self {
			t.Errorf("%q: %q, %q; want %q, %q", c.values, hubs, self, c.hubs, c.self)
		}
	}
}

func FuzzDiscover(f *testing.F) {
	f.Add(`<https://h/>; rel="hub", <x>; rel=self; a="\"`)
	base, _ := url.Parse("https://t.example/")
	f.Fuzz(func(t *testing.T, v string) {
		hubs, self := discover([]string{v}, base)
		for _, s := range append(hubs, self) {
			if u, err := url.Parse(s); s != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https") {
				t.Errorf("%q: target %q", v, s)
			}
		}
	})
}
