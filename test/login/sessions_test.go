package login_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorumhub/auth/session"
	"quorumhub/test/hubtest"
)

// visitor is a browser as far as cookies go. It takes those of localhost as if the connection were secure, as browsers do.
type visitor struct {
	*testing.T
	url     string
	cookies map[string]string
}

func (v *visitor) request(method, target string, form url.Values, header ...string) (*http.Response, string) {
	v.Helper()
	r, err := http.NewRequestWithContext(v.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		v.Fatal(err)
	}
	r.Host = strings.TrimPrefix(v.url, "http://")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		v.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if v.cookies[c.Name] = c.Value; c.Value == "" {
			delete(v.cookies, c.Name)
		}
	}
	return resp, string(body)
}

var hidden = regexp.MustCompile(`name="state" value="([^"]+)"`)

// logIn logs in with the emergency account.
func (v *visitor) logIn() {
	v.Helper()
	_, page := v.request(http.MethodGet, v.url+"/login", nil, "Accept", "text/html")
	state := hidden.FindStringSubmatch(page)
	if state == nil {
		v.Fatalf("no form:\n%s", page)
	}
	resp, page := v.request(http.MethodPost, v.url+"/login/form", url.Values{"state": {state[1]}, "name": {"root"}, "password": {password}}, "Accept", "text/html")
	if resp.StatusCode != http.StatusSeeOther || v.cookies[session.CookieName] == "" {
		v.Fatalf("%d:\n%s", resp.StatusCode, page)
	}
}

// follow opens an event stream at a node, and returns what receives its end.
func (v *visitor) follow(n *hubtest.Node, target string) <-chan string {
	v.Helper()
	r, err := http.NewRequestWithContext(v.Context(), http.MethodGet, "http://"+n.Addr+target, http.NoBody)
	if err != nil {
		v.Fatal(err)
	}
	r.Host = strings.TrimPrefix(v.url, "http://")
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.AddCookie(&http.Cookie{Name: session.CookieName, Value: v.cookies[session.CookieName]})
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	if resp.StatusCode != http.StatusOK || !lines.Scan() {
		v.Fatalf("the stream of %s: %s", n.Addr, resp.Status)
	}
	end := make(chan string, 1)
	go func() {
		last := ""
		for lines.Scan() {
			if lines.Text() != "" {
				last = lines.Text()
			}
		}
		end <- last
	}()
	return end
}

// operate runs a command at a node.
func operate(t *testing.T, n *hubtest.Node, key string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hubtest.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, hubtest.Binary(t), append(args, "--hub", "http://"+n.Addr, "--token", key)...).CombinedOutput()
	if err != nil {
		t.Fatalf("quorumhub %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestSessionsEndOnAllNodes: whoever logs in at one node is known to all, listed by the next, and logged out of all by the third; what
// is open there ends within a heartbeat.
func TestSessionsEndOnAllNodes(t *testing.T) {
	const heartbeat = 2 * time.Second
	key := rootKey
	c := three(t, func(string) string {
		return local(t, "  - {name: readers, who: [{role: admin}], may: [read, publish, topic.register], topics: [news]}\n  - {name: operators, who: [{method: api-key}], may: [admin.auth, admin.view]}\n"+
			pagesOnly)
	}, hubtest.Settings{"streams.heartbeat": heartbeat.String(), "topics.auto_register": true})
	v := &visitor{T: t, url: c.url, cookies: map[string]string{}}
	v.logIn()
	if resp, body := v.request(http.MethodPost, c.url+"/topics/news", nil, "Content-Type", "text/plain"); resp.StatusCode != http.StatusOK {
		t.Fatalf("a publication: %d %s", resp.StatusCode, body)
	}
	var streams []<-chan string
	for _, n := range c.nodes {
		hubtest.Eventually(t, "the topic is there", func() error {
			_, body := v.request(http.MethodGet, "http://"+n.Addr+"/login/me", nil, "Accept", "application/json")
			if !strings.Contains(body, `"local/root"`) {
				return fmt.Errorf("%s: %s", n.Addr, body)
			}
			return nil
		})
		streams = append(streams, v.follow(n, "/topics/news?start=earliest"))
	}
	var listed string
	hubtest.Eventually(t, "the session is listed", func() error {
		listed = operate(t, c.nodes[1], key, "auth", "sessions", "--principal", "local/root")
		if !strings.Contains(listed, "local/root") || !strings.Contains(listed, "emergency") {
			return fmt.Errorf("%s", listed)
		}
		return nil
	})
	row := strings.Fields(strings.Split(strings.TrimSpace(listed), "\n")[1])
	began := time.Now()
	if out := operate(t, c.nodes[2], key, "auth", "end-session", row[0]); !strings.Contains(out, row[0]+" ended") {
		t.Errorf("%s", out)
	}
	for i, s := range streams {
		select {
		case last := <-s:
			if !strings.Contains(last, "forbidden") {
				t.Errorf("the stream of node-%d ended with %s", i+1, last)
			}
		case <-time.After(hubtest.Patience):
			t.Fatalf("the stream of node-%d goes on", i+1)
		}
	}
	if took := time.Since(began); took > heartbeat+5*time.Second { // a machine with other work
		t.Errorf("the streams ended after %s", took)
	}
	for _, n := range c.nodes {
		if _, body := v.request(http.MethodGet, "http://"+n.Addr+"/login/me", nil, "Accept", "application/json"); strings.Contains(body, "local/root") {
			t.Errorf("%s takes the cookie: %s", n.Addr, body)
		}
	}
	if out := operate(t, c.nodes[0], key, "auth", "end-session", "--all"); !strings.Contains(out, "0 sessions ended") {
		t.Errorf("%s", out)
	}
}
