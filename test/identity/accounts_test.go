package identity_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"quorumhub/test/hubtest"
	"quorumhub/test/idp"
)

// command runs the hub's program and returns what it prints.
func command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), hubtest.Binary(t), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

const password = "correct horse battery staple"

// household is a hub with a local account, and an operator's key.
type household struct {
	*hubtest.Node
	file, hash, seed, key string
}

func newHousehold(t *testing.T) *household {
	t.Helper()
	h := &household{file: filepath.Join(t.TempDir(), "auth.yaml")}
	h.hash = strings.TrimSpace(command(t, password+"\n", "auth", "hash-password", "--memory", "8"))
	h.seed = regexp.MustCompile(`(?m)^  ([A-Z2-7]{32})$`).FindStringSubmatch(command(t, "", "auth", "new-totp", "--name", "root"))[1]
	made := command(t, "", "auth", "new-key", "--name", "ops", "--role", "operator")
	h.key = regexp.MustCompile(`qhk_\S+`).FindString(made)
	_, operators, _ := strings.Cut(made, "Add this to auth.file:\n\n")
	h.write(t, true, operators)
	h.Node = hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"auth.mode": "required", "auth.file": h.file}})
	return h
}

// write writes auth.file.
func (h *household) write(t *testing.T, enabled bool, keys string) {
	t.Helper()
	totp := filepath.Join(filepath.Dir(h.file), "totp")
	text := fmt.Sprintf(`
identity_providers:
  - {name: emergency, kind: local, enabled: %v, accounts: [{name: root, password_hash: %q, totp: {file: %s}, roles: [admin]}]}
  - {name: paste, kind: key}
sequences:
  staff: {steps: [{strategy: multi, of: [emergency, paste]}]}
service_providers:
  - {name: console, protocol: pages, sequence: staff}
rules:
  - {name: admins, may: [admin.view], who: [{role: admin, issuer: emergency}, {role: operator}]}
%s`, enabled, h.hash, totp, keys)
	if err := errors.Join(os.WriteFile(h.file, []byte(text), 0o600), os.WriteFile(totp, []byte(h.seed+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// try fills in the form of one authenticator.
func (h *household) try(t *testing.T, b *idp.Browser, by string, fill url.Values) *idp.Page {
	t.Helper()
	page := b.Go(t, h.URL+"/login?idp="+by, nil)
	if len(page.Forms) != 1 {
		t.Fatal(page)
	}
	return b.Send(t, page.Forms[0], fill, nil)
}

// A hub without identity providers elsewhere: people log in with a local account and its one-time codes, or with a key. The account's use
// is in the audit log; a key's session ends with the key, an account's when it is switched off.
func TestHubWithAccountsAndKeys(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	n := h.Node
	f := &federation{Node: n}
	try, seed, key := h.try, h.seed, h.key
	codeNow := func() string {
		c, err := totp.GenerateCode(seed, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root, ops := idp.NewBrowser(t), idp.NewBrowser(t)
	code := codeNow()
	try(t, root, "emergency", url.Values{"name": {"root"}, "password": {password}, "code": {code}})
	try(t, ops, "paste", url.Values{"key": {key}})
	if who := f.me(t, root); who != "local/root" {
		t.Fatalf("logged in as %q", who)
	}
	if who := f.me(t, ops); !strings.HasPrefix(who, "key/") {
		t.Fatalf("logged in as %q", who)
	}
	for _, b := range []*idp.Browser{root, ops} {
		if page := b.Go(t, n.URL+"/v1/cluster", nil); page.Status != 200 {
			t.Errorf("/v1/cluster: %s", page)
		}
	}
	other := idp.NewBrowser(t)
	if page := try(t, other, "emergency", url.Values{"name": {"root"}, "password": {password}, "code": {code}}); f.me(t, other) != "" {
		t.Errorf("the same code once more: %s", page)
	}
	if page := try(t, other, "paste", url.Values{"key": {key[:len(key)-4] + "AAAA"}}); f.me(t, other) != "" {
		t.Errorf("a wrong key: %s", page)
	}
	for i := range 5 {
		page := try(t, other, "emergency", url.Values{"name": {"root"}, "password": {"a guess of mine"}, "code": {"000000"}})
		if i == 4 && (page.Status != 429 || page.Header.Get("Retry-After") == "") {
			t.Errorf("the sixth failure: %d", page.Status)
		}
	}
	log := n.Log()
	for _, want := range []string{`level=WARN msg=audit actor=local/root action=login.local object.provider=emergency outcome=done`, `outcome=denied reason="session: emergency: account root: the one-time code was used before"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	for _, secret := range []string{password, seed, key, "a guess of mine"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}

	h.write(t, false, "")
	if err := syscall.Kill(n.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "both sessions end", func() error {
		if a, b := f.me(t, root), f.me(t, ops); a+b != "" {
			return fmt.Errorf("still %q and %q", a, b)
		}
		return nil
	})
	if page := idp.NewBrowser(t).Go(t, n.URL+"/login?idp=emergency", nil); page.Status < 400 || len(page.Forms) > 0 {
		t.Errorf("an account that is switched off: %s", page)
	}
}
