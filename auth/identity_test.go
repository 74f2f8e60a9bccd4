package auth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
)

const someHash = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b5dWRWJTmaaDdYZ8rTJ5QGx2YY"

// identities is an auth.file with all that logins need; each %s takes more lines at its place.
const identities = `
issuers: [{name: corp, issuer: https://idp.example.org, audiences: [hub]}]
client_certificates: {subject: dns}
identity_providers:
  - {name: corp, kind: oidc, label: Company account, issuer: https://idp.example.org, client_id: hub, client_secret: {env: QUORUMHUB_TEST_SECRET}, claims: {user: /preferred_username, roles: /realm_access/roles}, allowed_domains: [example.org]}
  - {name: partner, kind: oidc, issuer: https://partner.example.net/oidc, client_id: hub}
  - {name: emergency, kind: local, enabled: true, accounts: [{name: root, password_hash: "` + someHash + `", roles: [admin]}]}
  - {name: paste, kind: key}
sequences:
  staff: {steps: [{strategy: multi, of: [corp, partner], retries: 1}, {strategy: single, of: [emergency], principal: any}]}
  machines: {steps: [{strategy: parallel, of: [certificate, key], require: all}]}
service_providers:
  - {name: console, protocol: pages, sequence: staff, max_age: 10m}
  - {name: api, protocol: api, sequence: machines}
  - {name: wiki, protocol: forward-auth, hosts: [wiki.example.org, "wiki.example.org:8443"], sequence: corp, claims: {Groups: roles}}
  - {name: shop, protocol: oidc, client_id: shop, client_secret_hash: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, redirect_uris: ["https://shop.example.org/cb", "http://127.0.0.1:7777/cb"], sequence: staff, claims: {email_name: user}}
sessions: {idle: 20m, absolute: 8h}
rules:
  - {name: admins, may: [publish], topics: ["**"], who: [{issuer: emergency, role: admin}]}
`

func TestIdentitySettings(t *testing.T) {
	t.Setenv("QUORUMHUB_TEST_SECRET", "a client secret")
	s, err := auth.ParseSettings([]byte(identities))
	if err != nil {
		t.Fatal(err)
	}
	corp, ok := s.IdentityProvider("corp")
	if !ok || string(corp.ClientSecret.Bytes()) != "a client secret" || corp.ClientAuth != "basic" || strings.Join(corp.Scopes, " ") != "openid profile email" ||
		corp.Claims.Roles[0] != "/realm_access/roles" || corp.Claims.Subject[0] != "/sub" || corp.Claims.Name[0] != "/name" {
		t.Errorf("corp: %+v", corp)
	}
	if text := fmt.Sprintf("%+v %v %s", *corp, corp, corp.ClientSecret); strings.Contains(text, "a client secret") {
		t.Error("a printed provider shows its secret")
	}
	if partner, _ := s.IdentityProvider("partner"); partner.ClientAuth != "none" || partner.Label != "partner" {
		t.Errorf("partner: %+v", partner)
	}
	if steps, ok := s.StepsOf("staff"); !ok || len(steps) != 2 || steps[0].TriesOf() != 2 || steps[1].TriesOf() != auth.DefaultRetries+1 {
		t.Errorf("staff: %+v", steps)
	}
	if steps, ok := s.StepsOf("paste"); !ok || len(steps) != 1 || steps[0].Strategy != auth.StrategySingle {
		t.Errorf("paste as a sequence: %+v", steps)
	}
	if _, ok := s.StepsOf("nothing"); ok {
		t.Error("there is a sequence of an unknown name")
	}
	if p, ok := s.ServiceProvider("shop"); !ok || len(p.SecretHash()) != 32 {
		t.Errorf("shop: %+v", p)
	}
	if s.Sessions != (auth.SessionSettings{Idle: 20 * time.Minute, Absolute: 8 * time.Hour}) {
		t.Errorf("sessions: %+v", s.Sessions)
	}
	if holders := strings.Join(s.KeyHolders(), " "); !strings.Contains(holders, "local/root") {
		t.Errorf("holders: %s, want the local account among them", holders)
	}
	empty, err := auth.ParseSettings(nil)
	if err != nil || empty.Sessions != (auth.SessionSettings{Idle: 30 * time.Minute, Absolute: 12 * time.Hour}) {
		t.Errorf("defaults: %+v %v", empty.Sessions, err)
	}
}

// mistakes puts each mistake, the second text in place of the first, into the settings. It must be named with its place, as the third says,
// and no error may show what could be a secret.
func mistakes(t *testing.T, all [][3]string) {
	t.Helper()
	t.Setenv("QUORUMHUB_TEST_SECRET", "a client secret")
	t.Setenv("QUORUMHUB_SHORT", "x")
	for _, c := range all {
		text := strings.Replace(identities, c[0], c[1], 1)
		if text == identities {
			t.Errorf("%q is not in the settings", c[0])
			continue
		}
		_, err := auth.ParseSettings([]byte(text))
		if err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s:\n got %v\nwant %s", c[1], err, c[2])
			continue
		}
		for _, secret := range []string{"hunter2", "correct horse", "JBSWY3", "a client secret", "1234567890", "\n"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows %q: %v", c[1], secret, err)
			}
		}
	}
}

func TestMistakesInIdentityProviders(t *testing.T) {
	mistakes(t, [][3]string{
		{"name: partner, kind: oidc", "name: partner, kind: saml", `identity_providers[1] (partner): kind: "saml"; expected oidc, local or key`},
		{"name: partner, kind: oidc", "name: corp, kind: oidc", `identity_providers[1] (corp): duplicate name`},
		{"name: partner, kind: oidc", "name: token, kind: oidc", `identity_providers[1] (token): name: "token" is the hub's own`},
		{"name: partner, kind: oidc", "name: 'a b', kind: oidc", `identity_providers[1] (a b): name: "a b"; expected at most 64 letters`},
		{"issuers: [{name: corp, issuer: https://idp.example.org,", "issuers: [{name: corp, issuer: https://other.example.org,", `identity_providers[0] (corp): name: "corp" is also the name of the issuer https://other.example.org; expected kind oidc and that very issuer`},
		{"https://partner.example.net/oidc, client_id: hub", "http://partner.example.net, client_id: hub", `identity_providers[1] (partner): issuer: "http://partner.example.net": expected https`},
		{"https://partner.example.net/oidc, client_id: hub", "https://idp.example.org, client_id: hub", `identity_providers[1] (partner): is client "hub" of https://idp.example.org, as corp is`},
		{"https://partner.example.net/oidc, client_id: hub", "https://partner.example.net/oidc", `identity_providers[1] (partner): client_id: ""`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_secret: hunter2hunter2", `identity_providers[0] (corp): client_secret: is written in the clear; expected {file: PATH} or {env: NAME}`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_secret: 1234567890", `client_secret: is written in the clear`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_secret: {env: QUORUMHUB_SHORT}", `client_secret: secret_env QUORUMHUB_SHORT: has 1 bytes; expected at least 8`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_secret: {env: A, file: b}", `client_secret: has file and env; expected one of them`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_secret: {path: b}", `unknown key "path"`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_auth: post", `client_auth: post; expected client_secret with basic and post`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_auth: magic", `client_auth: "magic"; expected basic, post, private_key_jwt or none`},
		{"client_secret: {env: QUORUMHUB_TEST_SECRET}", "client_key: {file: k.pem, algorithm: HS256}", `client_key.algorithm: "HS256"`},
		{"allowed_domains: [example.org]", "allowed_domains: ['@example.org']", `allowed_domains: "@example.org"; expected a domain`},
		{"allowed_domains: [example.org]", "scopes: [profile]", `scopes: expected openid among them`},
		{"claims: {user: /preferred_username,", "claims: {user: preferred_username,", `claims.user: "preferred_username" is not a JSON pointer`},
		{"claims: {user: /preferred_username,", "claims: {users: /preferred_username,", `unknown key "users"`},
		{"kind: local, enabled: true, accounts: [{name: root, password_hash: \"" + someHash + "\", roles: [admin]}]", "kind: local, enabled: true", `identity_providers[2] (emergency): enabled: true without accounts`},
		{someHash, "correct horse", `identity_providers[2] (emergency): accounts[0] (root): password_hash: is none of argon2id; expected $argon2id$`},
		{"m=65536", "m=64", `password_hash: its cost m is not from 8192 to 262144`},
		{"m=65536", "m=99999999", `password_hash: its cost m is not from 8192 to 262144`},
		{"roles: [admin]}]}", "totp: JBSWY3DPEHPK3PXP}]}", `accounts[0] (root): totp: is written in the clear`},
		{"{name: paste, kind: key}", "{name: paste, kind: local, accounts: [{name: root, password_hash: '" + someHash + "'}]}", `identity_providers[3] (paste): accounts[0]: "root" is also an account of emergency`},
		{"{name: paste, kind: key}", "{name: paste, kind: key, issuer: https://x.example}", `identity_providers[3] (paste): has keys for kind oidc`},
		{"{name: paste, kind: key}", "{name: paste, kind: key, enabled: true}", `identity_providers[3] (paste): has enabled or accounts`},
		{"{name: paste, kind: key}", "{name: paste, kind: key, label: \"a\\nb\"}", `identity_providers[3] (paste): label`},
	})
}

func TestMistakesInSequencesAndServiceProviders(t *testing.T) {
	mistakes(t, [][3]string{
		{"of: [corp, partner]", "of: [corp, partners]", `sequences.staff: steps[0]: there is no authenticator "partners"; auth.file sets up certificate, corp, default, emergency, key, partner, paste, token`},
		{"of: [corp, partner]", "of: [corp]", `sequences.staff: steps[0]: multi takes at least two authenticators, got 1`},
		{"strategy: single, of: [emergency]", "strategy: single, of: [emergency, paste]", `sequences.staff: steps[1]: single takes exactly one authenticator, got 2`},
		{"strategy: single, of: [emergency]", "strategy: single, of: [corp]", `sequences.staff: steps[1]: corp is in steps[0], too; one proof would do for both`},
		{"strategy: single, of: [emergency]", "strategy: single, of: [default]", `sequences.staff: steps[1]: default is whatever credentials the hub accepts; expected it alone`},
		{"strategy: multi", "strategy: race", `sequences.staff: steps[0]: strategy: "race"; expected single, multi, parallel, failover`},
		{"retries: 1", "retries: 11", `sequences.staff: steps[0]: retries: 11; expected 0 to 10`},
		{"retries: 1", "require: any", `sequences.staff: steps[0]: has require or min, which are for strategy parallel only`},
		{"principal: any", "principal: some", `sequences.staff: steps[1]: principal: "some"; expected same or any`},
		{"of: [certificate, key]", "of: [certificate, partner]", `sequences.machines: steps[0]: partner needs somebody to act, so it cannot be asked in parallel`},
		{"of: [certificate, key]", "of: [key, key]", `sequences.machines: steps[0]: names key twice`},
		{"require: all", "min: 3", `sequences.machines: steps[0]: min: 3; expected 1 to 2`},
		{"machines: {steps", "partner: {steps", `sequences.partner: the name is an authenticator's`},
		{"machines: {steps: [{strategy: parallel, of: [certificate, key], require: all}]}", "machines: {steps: []}", `sequences.machines: has 0 steps; expected 1 to 8`},

		{"protocol: pages", "protocol: page", `service_providers[0] (console): protocol: "page"; expected one of pages, api, forward-auth, oidc`},
		{"sequence: machines", "sequence: machine", `service_providers[1] (api): sequence: "machine"; expected one of machines, staff, certificate, corp`},
		{"name: wiki", "name: api", `service_providers[2] (api): duplicate name`},
		{"protocol: pages, sequence: staff, max_age: 10m", "protocol: api, sequence: staff", `service_providers[1] (api): protocol: api, as console has it; the hub has one API`},
		{"max_age: 10m", "max_age: -10m", `service_providers[0] (console): max_age: -10m0s; expected more than 0`},
		{"max_age: 10m", "hosts: [a.example.org]", `service_providers[0] (console): hosts: is for protocol forward-auth only`},
		{"max_age: 10m", "claims: {a: user}", `service_providers[0] (console): claims: is for protocols oidc and forward-auth only`},
		{`hosts: [wiki.example.org, "wiki.example.org:8443"]`, "hosts: []", `service_providers[2] (wiki): hosts: expected the hosts of the application`},
		{`hosts: [wiki.example.org, "wiki.example.org:8443"]`, "hosts: [Wiki.example.org]", `hosts: "Wiki.example.org"; expected a host in lower case`},
		{`hosts: [wiki.example.org, "wiki.example.org:8443"]`, "hosts: ['*.example.org']", `hosts: "*.example.org"; expected a host in lower case`},
		{`hosts: [wiki.example.org, "wiki.example.org:8443"]`, "hosts: [a.example.org, a.example.org]", `hosts: a.example.org is also a host of wiki`},
		{"claims: {Groups: roles}", "claims: {Groups: groups}", `claims.Groups: "groups"; expected one of amr, authority, id`},
		{"client_id: shop, client_secret_hash", "client_id: quorumhub-terminal, client_secret_hash", `client_id: "quorumhub-terminal" is what quorumhub login calls itself`},
		{"client_id: shop, ", "", `service_providers[3] (shop): client_id: ""`},
		{"client_secret_hash: e3b0", "client_secret_hash: hunter2", `client_secret_hash: is no hash; expected 64 hexadecimal digits`},
		{`"https://shop.example.org/cb"`, `"http://shop.example.org/cb"`, `redirect_uris[0]: "http://shop.example.org/cb": expected https; http is allowed only on this machine`},
		{`"https://shop.example.org/cb"`, `"https://*.example.org/cb"`, `redirect_uris[0]: "https://*.example.org/cb" has a *`},
		{`"https://shop.example.org/cb"`, `"https://shop.example.org/cb#x"`, `redirect_uris[0]`},
		{`"https://shop.example.org/cb"`, `"https://shop.example.org/c b"`, `redirect_uris[0]`},
		{`"https://shop.example.org/cb"`, `"https://user@shop.example.org/cb"`, `redirect_uris[0]`},
		{`"https://shop.example.org/cb"`, `"javascript:alert(1)"`, `redirect_uris[0]`},
		{`redirect_uris: ["https://shop.example.org/cb", "http://127.0.0.1:7777/cb"]`, `redirect_uris: []`, `redirect_uris: expected at least one`},
		{"claims: {email_name: user}", "claims: {aud: user}", `claims.aud: the protocol sets it`},
		{"idle: 20m", "idle: 1m", `sessions: idle: 1m0s; expected 2m0s to 8h0m0s, the absolute limit`},
		{"absolute: 8h", "absolute: 10m", `sessions: idle: 20m0s; expected`},
		{"absolute: 8h", "absolute: 800h", `sessions: absolute: 800h0m0s; expected at most 168h0m0s`},
		{"issuer: emergency, role", "issuer: emergencies, role", `rules[0] (admins): unknown issuer "emergencies"; expected a name under issuers, token_service or identity_providers`},
	})
	two := strings.Replace(identities, "  - {name: wiki,", "  - {name: shop2, protocol: oidc, client_id: shop, redirect_uris: [\"https://b.example.org\"], sequence: corp}\n  - {name: wiki,", 1)
	if _, err := auth.ParseSettings([]byte(two)); err == nil || !strings.Contains(err.Error(), `service_providers[4] (shop): client_id: "shop" is also shop2's`) {
		t.Errorf("two applications with one client_id: %v", err)
	}
}

// Names that only an embedding program knows are accepted from it, and from nobody else.
func TestSettingsWithNamesOfAProgramsOwn(t *testing.T) {
	text := []byte("sequences: {s: {steps: [{strategy: quorum, of: [key]}]}}\nservice_providers: [{name: toy, protocol: toy, sequence: s}]\n")
	if _, err := auth.ParseSettings(text, auth.KnownStrategies(map[string]auth.Strategy{"quorum": nothing{}}), auth.KnownProtocols("toy")); err != nil {
		t.Error(err)
	}
	if _, err := auth.ParseSettings(text); err == nil {
		t.Error("unknown strategies are accepted")
	}
}

func TestTOTPSecretFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "totp")
	if err := os.WriteFile(file, []byte("JBSWY3DPEHPK3PXP\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QUORUMHUB_TEST_SECRET", "a client secret")
	s, err := auth.ParseSettings([]byte(strings.Replace(identities, "roles: [admin]}]}", "roles: [admin], totp: {file: "+file+"}}]}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := s.IdentityProvider("emergency")
	if string(p.Accounts[0].TOTP.Bytes()) != "JBSWY3DPEHPK3PXP" {
		t.Errorf("%q", p.Accounts[0].TOTP.Bytes())
	}
	if files := strings.Join(s.SecretFiles(), " "); !strings.Contains(files, file) {
		t.Errorf("secret files %q, want %s, whose permissions are watched", files, file)
	}
}

// FuzzIdentitySettings reads settings of logins: what is accepted names only what there is.
func FuzzIdentitySettings(f *testing.F) {
	f.Add(identities)
	f.Add("sequences: {s: {steps: [{strategy: multi, of: [key, default], retries: -1}]}}")
	f.Add("identity_providers: [{name: a, kind: oidc, client_secret: [1], claims: {roles: {a: b}}}]\nsessions: {idle: 1ns}")
	f.Add("service_providers: [{name: a, protocol: oidc, client_id: b, redirect_uris: ['https://[::1'], sequence: key}]")
	f.Setenv("QUORUMHUB_TEST_SECRET", "a client secret")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := auth.ParseSettings([]byte(text))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		for i := range s.ServiceProviders {
			if steps, ok := s.StepsOf(s.ServiceProviders[i].Sequence); !ok || len(steps) == 0 {
				t.Errorf("%s has no steps", s.ServiceProviders[i].Name)
			}
		}
		if s.Sessions.Idle <= 0 || s.Sessions.Absolute < s.Sessions.Idle {
			t.Errorf("sessions %+v", s.Sessions)
		}
	})
}
