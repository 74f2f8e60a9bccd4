package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"quorumhub/web/gateway/registry"
)

// with puts lines into a registry that is otherwise right. Its services begin in line 5, its first version in line 6.
func with(top, service string) string {
	return "version: 1\nupstreams: {a: {urls: [http://127.0.0.1:1]}}\n" + top + "\nservices:\n" + service + "\n"
}

func version(more string) string {
	return with("", "- name: s\n  uri: s\n  versions:\n  - {version: \"1\", target: \"a:/x\", methods: [GET], "+more+"}")
}

// bad is a text and what Read must say of it: position, path, and a part of the words.
type bad struct{ text, want string }

func TestMistakesAreNamed(t *testing.T) {
	for name, tt := range badRegistries() {
		t.Run(name, func(t *testing.T) { expectMistake(t, tt.text, tt.want) })
	}
}

func badRegistries() map[string]bad {
	return map[string]bad{
		"unknown key":           {"version: 1\nupstraems: {}\n", "line 2, column 1: upstraems: unknown key; did you mean upstreams?"},
		"unknown inner key":     {version("methdos: [GET]"), "line 8, column 52: services[0].versions[0].methdos: unknown key; did you mean methods?"},
		"no version":            {"prefix: /x\n", "line 1, column 1: version: is missing"},
		"other version":         {"version: 2\n", `version: got "2", expected a number from 1 to 1`},
		"quoted number":         {"version: \"1\"\n", `version: got "1", expected a number from 1 to 1, without quotes`},
		"empty":                 {"", "is empty, expected a registry that begins with version: 1"},
		"only a comment":        {"# x\n", "is empty"},
		"broken":                {"version: 1\nservices: [\n", "not valid YAML: "},
		"tab":                   {"version: 1\nservices:\n\t- x\n", "line 3, column 1: not valid YAML: indented with a tab, expected spaces"},
		"second document":       {"version: 1\n---\nversion: 1\n", "a second document starts here"},
		"not a mapping":         {"- a\n", "is a list, expected some of the keys version, prefix"},
		"key twice":             {"version: 1\nprefix: /a\nprefix: /b\n", "line 3, column 1: prefix: is given twice, first in line 2"},
		"anchor":                {"version: 1\nprefix: &a /x\n", "anchors and aliases are not possible"},
		"alias":                 {"version: 1\ndefaults: {auth: &a x}\ntopics: [{match: *a}]\n", "anchors and aliases are not possible"},
		"merge key":             {"version: 1\n<<: {prefix: /x}\n", "did you mean"},
		"tag":                   {"version: 1\nprefix: !!str /x\n", "a tag (!!str) is not possible"},
		"not UTF-8":             {"version: 1\nprefix: \"\xff\"\n", "line 2, column 10: not UTF-8"},
		"no value":              {"version: 1\nprefix:\n", "line 2, column 8: prefix: has no value, expected a path such as /gateway"},
		"scalar for a list":     {version("produces: json"), `services[0].versions[0].produces: got "json", expected a list, such as [json]`},
		"empty list":            {version("produces: []"), "produces: is empty, expected at least one format"},
		"list for a scalar":     {version("auth: [geo]"), "auth: is a list, expected the name of a sequence"},
		"boolean in quotes":     {version(`format_param: "true"`), `format_param: got "true", expected true or false`},
		"unknown format":        {version("produces: [yaml]"), `produces[0]: got "yaml", expected json or xml`},
		"bad prefix":            {"version: 1\nprefix: gateway/\n", `prefix: got "gateway/", expected a path such as /gateway`},
		"bad duration":          {version("timeout: 5"), "timeout: got 5, expected a duration such as 10s"},
		"duration too long":     {version("timeout: 2h"), "timeout: got 2h0m0s, expected 1ms to 10m0s"},
		"bad size":              {version("max_body: 1MIB"), `max_body: got "1MIB", expected a size such as 1MiB`},
		"size too large":        {version("max_body: 99999999999TiB"), `max_body: got "99999999999TiB", expected a size`},
		"bad rate":              {version("limits: {rate: 100/min}"), `limits.rate: got "100/min", expected requests per time`},
		"bad method":            {with("", "- {name: s, uri: s, versions: [{version: \"1\", target: \"a:/\", methods: [get]}]}"), `methods[0]: got "get", expected GET, HEAD`},
		"no methods":            {with("", "- {name: s, uri: s, versions: [{version: \"1\", target: \"a:/\"}]}"), "versions[0].methods: is missing: without a method no request matches"},
		"no target":             {with("", "- {name: s, uri: s, versions: [{version: \"1\", methods: [GET]}]}"), "versions[0].target: is missing"},
		"no versions":           {with("", "- {name: s, uri: s}"), "services[0].versions: is missing"},
		"unknown upstream":      {strings.Replace(version(""), "a:/x", "b:/x", 1), `versions[0].target: unknown upstream "b", expected one of: a`},
		"upstream topic":        {"version: 1\nupstreams: {topic: {urls: [http://h]}}\n", "topic: has a meaning of its own"},
		"unknown verifier":      {version("verifier: github"), `verifier: unknown verifier "github", expected one of: none is defined`},
		"unknown authenticator": {version("auth: keyclaok"), `auth: unknown sequence or authenticator "keyclaok"; expected geo`},
		"unknown operation":     {strings.Replace(version(""), "a:/x", "hub:drop", 1), `target: unknown operation "drop"; expected topics`},
		"unknown topic":         {with("", "- {name: s, uri: s, versions: [{version: \"1\", target: \"topic:closed\", methods: [POST]}]}"), `target: topic "closed": is not registered`},
		"topic with GET":        {strings.Replace(version(""), "a:/x", "topic:t", 1), "a topic takes messages, but the version serves GET"},
		"unknown schema file":   {version("body: {schema: gone.json}"), `body.schema: the file "gone.json" cannot be read`},
		"file outside":          {version("body: {schema: ../gone.json}"), `expected a file beside or below the registry`},
		"unknown trust":         {version("protect: {verify: {jws: true, trust: ca}}"), `protect.verify.trust: unknown authorities "ca"`},
		"unknown key name":      {version("protect: {decrypt: k}"), `protect.decrypt: unknown key "k"`},
		"bad release pointer":   {version("protect: {release: {basic: [name]}}"), `protect.release.basic[0]: got "name", expected a JSON pointer such as /name, or *`},
		"sunset first":          {version("deprecated_at: 2026-02-01, sunset_at: 2026-01-01"), "sunset_at: 2026-01-01 is before deprecated_at (2026-02-01)"},
		"no such day":           {version("sunset_at: 2026-02-30"), `sunset_at: got "2026-02-30", expected a date`},
		"deprecated, no date":   {version("status: deprecated"), "deprecated_at: is missing"},
		"retired, no date":      {version("status: retired"), "sunset_at: is missing"},
		"own successor":         {version(`successor: "1"`), "successor: is the version itself"},
		"unknown successor":     {version(`successor: "2"`), `successor: unknown version "2", expected one of 1`},
		"unknown default":       {with("", "- {name: s, uri: s, default: \"2\", versions: [{version: \"1\", target: \"a:/\", methods: [GET]}]}"), `services[0].default: unknown version "2"`},
		"retired default": {with("", "- {name: s, uri: s, default: \"1\", versions: [{version: \"1\", status: retired, sunset_at: 2026-01-01}, {version: \"2\", target: \"a:/\", methods: [GET]}]}"),
			"services[0].default: version 1 is retired"},
		"no default": {with("", "- {name: s, uri: s, versions: [{version: \"1\", target: \"a:/\", methods: [GET]}, {version: \"2\", target: \"a:/\", methods: [GET]}]}"),
			"services[0].default: is missing"},
		"version twice": {with("", "- {name: s, uri: s, default: \"1\", versions: [{version: \"1\", target: \"a:/\", methods: [GET]}, {version: \"1\", target: \"a:/\", methods: [POST]}]}"),
			"versions[1].version: version 1 is given twice"},
		"name twice": {two("s", "x", "s", "y", ""), "services[1].name: s is also the name of services[0] (line 5)"},
		"URI twice":  {two("s", "x", "t", "x", ""), "services[1].uri: GET x in version 1 is also served by services[0] (s, line 5)"},
		"retired twin": {with("", "- {name: s, uri: x, default: \"2\", versions: [{version: \"1\", status: retired, sunset_at: 2026-01-01}, {version: \"2\", target: \"a:/\", methods: [GET]}]}\n"+
			"- {name: t, uri: x, versions: [{version: \"1\", target: \"a:/\", methods: [POST]}]}"), "services[1].uri: POST x in version 1 is also served by services[0] (s, line 5)"},
		"other methods":           {strings.Replace(two("s", "x", "t", "x", ""), "methods: [GET]", "methods: [POST]", 1), ""},
		"alias is a URI":          {two("s", "x", "t", "y", "aliases: [{uri: x}], "), "services[1].aliases[0].uri: GET x in version 1 is also served by services[0]"},
		"own URI as alias":        {two("s", "x", "t", "y", "aliases: [{uri: z}, {uri: y}], "), "services[1].aliases[1].uri: y is given twice"},
		"alias twice":             {two("s", "x", "t", "y", "aliases: [{uri: z}, {uri: z}], "), "services[1].aliases[1].uri: z is given twice"},
		"parts differ by name":    {two("s", "x/{a}", "t", "x/{b}", ""), "GET x/{b} in version 1 is also served by services[0]"},
		"leading slash":           {two("s", "/x", "t", "y", ""), `services[0].uri: got "/x", expected a relative URI`},
		"empty segment":           {two("s", "x//y", "t", "y", ""), `services[0].uri: got "x//y", expected a relative URI`},
		"query":                   {two("s", "x?a=b", "t", "y", ""), `services[0].uri: got "x?a=b"`},
		"percent":                 {two("s", "a%2Fb", "t", "y", ""), `services[0].uri: got "a%2Fb"`},
		"backslash":               {two("s", `a\b`, "t", "y", ""), `services[0].uri: got "a\\b"`},
		"dot segment":             {two("s", "a/../b", "t", "y", ""), `services[0].uri: has a segment ".."`},
		"star inside":             {two("s", "a/*/b", "t", "y", ""), `services[0].uri: has a segment "*"`},
		"part of a segment":       {two("s", "a/x{id}", "t", "y", ""), `services[0].uri: has a segment "x{id}"`},
		"part twice":              {two("s", "a/{id}/{id}", "t", "y", ""), "services[0].uri: has a part in braces twice"},
		"looks like a version":    {two("s", "v2/x", "t", "y", ""), `services[0].uri: begins with "v2", which in a path chooses the version`},
		"alias without star":      {two("s", "x/*", "t", "y/*", "aliases: [{uri: z}], "), `services[1].aliases[0].uri: got "z", expected an alias to end in /*`},
		"alias without part":      {two("s", "x", "t", "y/{id}", "aliases: [{uri: z}], "), "services[1].aliases[0].uri: has the parts none, expected those of the service's URI: {id}"},
		"foreign part":            {strings.Replace(version(""), "a:/x", "a:/x/{id}", 1), `target: has {id}, which the URI "s" does not have`},
		"relative target":         {strings.Replace(version(""), "a:/x", "a:x", 1), `target: got the path "x", expected one that begins with /`},
		"dots in target":          {strings.Replace(version(""), "a:/x", "a:/x/../y", 1), "target: has a dot segment"},
		"unknown path param":      {version("params: [{name: id, in: path}]"), "params[0].name: the URI has no {id}"},
		"regexp out of its group": {version(`params: [{name: id, pattern: "a)|(?:b"}]`), `params[0].pattern: got "a)|(?:b", expected a regular expression (RE2): unexpected )`},
		"unclosed regexp":         {version(`params: [{name: id, pattern: "[0-9"}]`), "expected a regular expression (RE2): missing closing ]: `[0-9`"},
		"target is a URL":         {strings.Replace(version(""), "a:/x", "http://127.0.0.1:1/x", 1), `versions[0].target: is a URL; expected <upstream>:<path>, with the URL below upstreams`},
		"bad regexp":              {version(`params: [{name: id, pattern: "(["}]`), `params[0].pattern: got "([", expected a regular expression (RE2)`},
		"param twice":             {version("params: [{name: X, in: header}, {name: x, in: header}]"), "params[1].name: x is given twice"},
		"key of no topic":         {version("key: header:X"), "key: is only for topic: targets"},
		"credential carried":      {with("", "- {name: s, uri: s, versions: [{version: \"1\", target: \"topic:t\", methods: [POST], carry_headers: [Authorization]}]}"), "carry_headers[0]: Authorization carries a credential"},
		"default none":            {"version: 1\ndefaults: {auth: none}\n", "defaults.auth: none as the default would leave every version open"},
		"secret in the clear":     {"version: 1\nverifiers: {g: {scheme: github, secret: hunter2hunter2}}\n", "line 2, column 41: verifiers.g.secret: a secret in the clear"},
		"escaped secret":          {"version: 1\nverifiers: {g: {scheme: github, secret: \"$${A}\"}}\n", "verifiers.g.secret: a secret in the clear"},
		"key in the clear":        {"version: 1\nkeys: {k: {private: \"-----BEGIN\"}}\n", "keys.k.private: a secret in the clear"},
		"header in the clear":     {"version: 1\nupstreams: {a: {urls: [http://h], headers: {X-Api-Key: abc}}}\n", "upstreams.a.headers.X-Api-Key: a secret in the clear"},
		"unset":                   {"version: 1\nverifiers: {g: {scheme: github, secret: \"${UNSET_IT}\"}}\n", "verifiers.g.secret: ${UNSET_IT} is not set"},
		"bad reference":           {"version: 1\nverifiers: {g: {scheme: github, secret: \"${A-B}\"}}\n", "${A-B} is not a reference"},
		"open reference":          {"version: 1\nverifiers: {g: {scheme: github, secret: \"${A\"}}\n", "a reference begins with ${ and does not end"},
		"reference elsewhere":     {strings.Replace(version(""), "a:/x", "a:/${X}", 1), "references are only possible in URLs, headers and secrets"},
		"verifier, no secret":     {"version: 1\nverifiers: {g: {scheme: github}}\n", "verifiers.g: secrets is empty; expected what the sender signs with"},
		"hmac, no header":         {"version: 1\nverifiers: {g: {scheme: hmac, secret: \"${LONG_ENOUGH}\"}}\n", "verifiers.g.header: header is"},
		"header, no hmac":         {"version: 1\nverifiers: {g: {scheme: github, secret: \"${LONG_ENOUGH}\", header: X}}\n", "verifiers.g.header: header is set, but github says itself how it signs"},
		"hub as upstream":         {"version: 1\nupstreams: {a: {urls: [http://127.0.0.1:8080/v1]}}\n", "upstreams.a.urls[0]: is the hub itself"},
		"metadata address":        {"version: 1\nupstreams: {a: {urls: [http://169.254.169.254]}}\n", "upstreams.a.urls[0]: 169.254.169.254 is not an address of a service"},
		"user in a URL":           {"version: 1\nupstreams: {a: {urls: [\"http://u:p@h\"]}}\n", "upstreams.a.urls[0]: got "},
		"other scheme":            {"version: 1\nupstreams: {a: {urls: [ftp://h]}}\n", `upstreams.a.urls[0]: got "ftp://h", expected an http(s) URL`},
		"bad port":                {"version: 1\nupstreams: {a: {urls: [\"http://h:0\"]}}\n", `got the port "0"`},
		"connects for ever":       {"version: 1\nupstreams: {a: {urls: [http://h], connect_timeout: 20m}}\n", "upstreams.a.connect_timeout: got 20m0s, expected 1ms to 10m0s"},
		"idles for ever":          {"version: 1\nupstreams: {a: {urls: [http://h], idle_timeout: 20m}}\n", "upstreams.a.idle_timeout: got 20m0s, expected 1ms to 10m0s"},
		"nothing in flight":       {"version: 1\nupstreams: {a: {urls: [http://h], max_in_flight: 0}}\n", "upstreams.a.max_in_flight: got \"0\", expected a number from 1"},
		"ejected for ever":        {"version: 1\nupstreams: {a: {urls: [http://h], eject: {failures: 1, max: 20m}}}\n", "upstreams.a.eject.max: got 20m0s, expected 1ms to 10m0s"},
		"header of the hub":       {"version: 1\nupstreams: {a: {urls: [http://h], headers: {Transfer-Encoding: chunked}}}\n", "Transfer-Encoding is the hub's to set"},
		"claim of the hub":        {"version: 1\nupstreams: {a: {urls: [http://h], token: {audience: x, claims: {sub: me}}}}\n", "token.claims.sub: sub is the gateway's to set"},
		"sequence default":        {"version: 1\nsequences: {default: [{of: [geo]}]}\n", "default has a meaning of its own"},
		"sequence geo":            {"version: 1\nsequences: {geo: [{of: [key]}]}\n", "geo is also the name of an authenticator"},
		"single of two":           {"version: 1\nsequences: {p: [{of: [geo, key]}]}\n", "sequences.p[0].of: 2 authenticators, but strategy single takes one"},
		"failover of one":         {"version: 1\nsequences: {p: [{strategy: failover, of: [geo]}]}\n", "sequences.p[0].of: one authenticator, but strategy failover needs at least two"},
		"a person in parallel":    {"version: 1\nsequences: {p: [{strategy: parallel, of: [geo, keycloak]}]}\n", "sequences.p[0].of: keycloak needs somebody to act"},
		"min too large":           {"version: 1\nsequences: {p: [{strategy: parallel, of: [geo, key], min: 3}]}\n", "sequences.p[0].min: got 3, expected at most"},
		"unknown step":            {"version: 1\nsequences: {p: [{of: [ldap]}]}\n", `sequences.p[0].of[0]: unknown authenticator "ldap"`},
		"shadowed topic":          {"version: 1\ntopics: [{match: \"a/**\", deliver: {strip: [/x]}}, {match: a/b, deliver: {strip: [/x]}}]\n", "topics[1].match: never applies: topics[0] (a/**, line 2) matches first"},
		"bad topic pattern":       {"version: 1\ntopics: [{match: \"a/**/b\", deliver: {strip: [/x]}}]\n", "topics[0].match: has ** in the middle"},
		"idle topic":              {"version: 1\ntopics: [{match: a}]\n", "topics[0]: does nothing"},
		"bad host":                {"version: 1\ntopics: [{match: a, subscribe: {callback_hosts: [\"*x.example\"]}}]\n", "callback_hosts[0]: got"},
		"too many aliases":        {two("s", "x", "t", "y", "aliases: ["+manyAliases(101)+"], "), "services[1].aliases: 101 entries, expected at most 100"},
		"bad pointer":             {"version: 1\ntopics: [{match: a, deliver: {strip: [x]}}]\n", `strip[0]: got "x", expected a JSON pointer`},
	}
}

func manyAliases(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{uri: z%d}, ", i)
	}
	return b.String()
}

// two returns two services; more stands in the second.
func two(name1, uri1, name2, uri2, more string) string {
	const each = "- {name: %s, uri: '%s', %sversions: [{version: \"1\", target: \"a:/\", methods: [GET]}]}\n"
	return with("", fmt.Sprintf(each, name1, uri1, "")+fmt.Sprintf(each, name2, uri2, more))
}

func expectMistake(t *testing.T, text, want string) {
	t.Helper()
	reg, mistakes := registry.Read(document(t, []byte(text), "testdata"), hub{})
	if want == "" {
		for _, m := range mistakes {
			t.Error(m)
		}
		return
	}
	if reg != nil {
		t.Fatalf("accepted; want %q of\n%s", want, text)
	}
	var said []string
	for _, m := range mistakes {
		if strings.Contains(m.Error(), want) {
			if m.Line == 0 && len(text) > 0 {
				t.Errorf("no position: %s", m)
			}
			if len(mistakes) > 3 {
				t.Errorf("%d mistakes, want this one and what follows from it: %v", len(mistakes), mistakes)
			}
			return
		}
		said = append(said, m.Error())
	}
	t.Errorf("got\n%s\nwant %q of\n%s", strings.Join(said, "\n"), want, text)
}

func TestXMLMistakesAreNamed(t *testing.T) {
	const begin = "<registry version=\"1\">\n  <upstreams><a urls=\"http://127.0.0.1:1\"/></upstreams>\n"
	for name, tt := range map[string]struct{ text, want string }{
		"other root":         {"<services/>", "line 1, column 1: the root element is <services>, expected <registry>"},
		"DTD":                {"<!DOCTYPE registry [<!ENTITY a \"b\">]>\n<registry version=\"1\"/>", "line 1, column 1: a DTD or declaration"},
		"entity":             {"<registry version=\"1\" prefix=\"/&a;\"/>", "not valid XML: invalid character entity &a;"},
		"instruction":        {"<?xml-stylesheet href=\"x\"?><registry version=\"1\"/>", "a processing instruction"},
		"not closed":         {"<registry version=\"1\">\n<services>\n</registry>", "not valid XML: element <services> closed by </registry>"},
		"cut off":            {"<registry version=\"1\">", "not valid XML: unexpected EOF"},
		"two roots":          {"<registry version=\"1\"/>\n<registry/>", "line 2, column 1: a second root element"},
		"other encoding":     {"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><registry version=\"1\"/>", "not valid XML: "},
		"unknown attribute":  {begin + "  <service name=\"s\"\n     uir=\"s\"/></registry>", "line 4, column 6: services[0].uir: unknown key; did you mean uri?"},
		"unknown element":    {begin + "  <servcie name=\"s\"/></registry>", "line 3, column 3: servcie: unknown key; did you mean services?"},
		"attribute twice":    {begin + "  <service name=\"s\" name=\"t\" uri=\"s\"/></registry>", "line 3, column 21: services[0].name: is given twice"},
		"key twice":          {begin + "  <service name=\"s\"><name>s</name></service></registry>", "services[0].name: is given twice"},
		"text among":         {begin + "  <services>x</services></registry>", `line 3, column 3: services: has the text "x"`},
		"element in text":    {begin + "  <defaults><auth><b/></auth></defaults></registry>", "defaults.auth: has an element <b>, expected only text"},
		"item of other name": {begin + "  <services><topic/></services></registry>", "line 3, column 13: services: has an element <topic>, expected <service>"},
		"bad value":          {begin + "  <defaults timeout=\"soon\"/></registry>", `line 3, column 13: defaults.timeout: got "soon", expected a duration`},
		"bad truth":          {begin + "  <topics><topic match=\"a\"><subscribe require_https=\"yes\"/></topic></topics></registry>", `topics[0].subscribe.require_https: got "yes", expected true or false`},
		"unknown upstream": {begin + "  <service name=\"s\" uri=\"s\">\n    <version version=\"1\" methods=\"GET\" target=\"b:/\"/>\n  </service></registry>",
			`line 4, column 40: services[0].versions[0].target: unknown upstream "b"`},
		"too deep": {strings.Repeat("<registry>", 100), "nested more than 64 deep"},
	} {
		t.Run(name, func(t *testing.T) { expectMistake(t, tt.text, tt.want) })
	}
}

// TestAllMistakesAreToldAtOnce in the order of the text, up to a bound.
func TestAllMistakesAreToldAtOnce(t *testing.T) {
	_, mistakes := registry.Read(registry.Document{Text: []byte("version: 2\nprefxi: /x\ntopics:\n- match: a\n- match: a/**/b\n")}, hub{})
	var lines []int
	for _, m := range mistakes {
		lines = append(lines, m.Line)
	}
	if fmt.Sprint(lines) != "[1 2 4 5]" {
		t.Errorf("mistakes are in the lines %v: %v", lines, mistakes)
	}
	_, mistakes = registry.Read(registry.Document{Text: []byte("version: 1\ntopics:\n" + strings.Repeat("- match: a/**/b\n", 1000))}, hub{})
	if len(mistakes) != 101 || !strings.Contains(mistakes[100].Error(), "and 900 more") {
		t.Errorf("%d mistakes, the last is %v", len(mistakes), mistakes[len(mistakes)-1])
	}
}

// TestMistakesKeepSecrets: the value of a reference that does not fit is not in the message.
func TestMistakesKeepSecrets(t *testing.T) {
	doc := registry.Document{
		Text:    []byte("version: 1\nupstreams:\n  a: {urls: [\"http://${HOST}\"], headers: {X-Token: \"${TOKEN}\"}}\nkeys: {k: {private: \"${KEY}\"}}\nverifiers: {g: {scheme: github, secret: \"${SHORT}\"}}\n"),
		Secrets: map[string]string{"HOST": "sesame one", "TOKEN": "sesame\ntwo", "KEY": "sesame three", "SHORT": "sesame"},
	}
	_, mistakes := registry.Read(doc, hub{})
	if len(mistakes) != 4 {
		t.Errorf("got %d mistakes, want 4: %v", len(mistakes), mistakes)
	}
	for _, m := range mistakes {
		if strings.Contains(m.Error(), "sesame") {
			t.Errorf("tells a secret: %s", m)
		}
	}
}

// TestDraftsNeedNoSecretsAndNoHub: unset references and names that only a hub knows pass.
func TestDraftsNeedNoSecretsAndNoHub(t *testing.T) {
	text := []byte("version: 1\nupstreams:\n  a: {urls: [\"http://${HOST}\"], headers: {X-Token: \"${TOKEN}\"}}\nkeys: {k: {private: \"${KEY}\"}}\n" +
		"verifiers: {g: {scheme: github, secret: \"${SHORT}\"}}\nservices:\n- {name: s, uri: s, versions: [{version: \"1\", target: \"topic:closed\", methods: [POST], auth: unheard-of}]}\n")
	if _, mistakes := registry.ReadDraft(registry.Document{Text: text}); len(mistakes) > 0 {
		t.Errorf("a draft: %v", mistakes)
	}
	if _, mistakes := registry.Read(registry.Document{Text: text}, nil); len(mistakes) != 4 {
		t.Errorf("without a hub: %v, want the four references", mistakes)
	}
	if _, mistakes := registry.Read(registry.Document{Text: text}, hub{}); len(mistakes) < 6 {
		t.Errorf("a hub accepts it but for %v", mistakes)
	}
}
