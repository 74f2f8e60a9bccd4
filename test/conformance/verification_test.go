package conformance_test

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// callbackQueries are callbacks that must reach the subscriber unchanged.
var callbackQueries = []string{
	"/cb",
	"/cb?b=2&a=1",
	"/cb?x=a+b&y=a%20b&z=%E9t%C3%A9",
	"/cb?empty=&bare&=noname&&double",
	"/cb?token=AbC%2FdEf%3D%3D&t=http%3A%2F%2Fx%2F%3Fq%3D1",
	"/cb?a[]=1&a[]=2&a[k]=v",
	"/cb;v=1?x;y",
	"/a//b/.c/d%2Fe/~f/%7Eg?q=/?",
	"/cb?x=1?y=2",
	"/cb?hub=1&topic=2",
	"/cb?q='(quoted)*!$,:@",
	"/",
	"?only=query",
}

func TestRule26CallbackQueryIsKept(t *testing.T) {
	n := shared(t)
	for _, path := range callbackQueries {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			s := hubtest.NewSubscriber(t)
			n.Subscribe(t, topic, s.Callback(path))
			n.Unsubscribe(t, topic, s.Callback(path))
			want := path
			if strings.HasPrefix(path, "?") {
				want = "/" + path // an empty path is "/" on the request line
			}
			joint := "?"
			if strings.Contains(want, "?") {
				joint = "&"
			}
			for _, r := range s.WaitFor(t, 2, "verifications", func(r hubtest.Request) bool { return r.IsIntent("") }) {
				own, ok := strings.CutPrefix(r.URI, want+joint)
				if !ok || !strings.HasPrefix(own, "hub.") || strings.Count(r.URI, "hub.challenge=") != 1 {
					t.Errorf("callback %s: got %s, want the callback as given, %q, and the hub's parameters", want, r.URI, joint)
				}
				for _, p := range hubtest.Params(own) {
					if !strings.HasPrefix(p.Name, "hub.") {
						t.Errorf("callback %s: %q is among the appended parameters %s", want, p.Name, own)
					}
				}
			}
		})
	}
}

func TestRule27EqualNamesAreNotOverwritten(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	path := "/cb?hub.mode=mine&hub.topic=mine&hub.challenge=mine&hub.lease_seconds=7&hub.x=1"
	n.Subscribe(t, topic, s.Callback(path))
	r := s.WaitIntent(t, "subscribe", 1)
	if !strings.HasPrefix(r.URI, path+"&") {
		t.Fatalf("got %s, want %s& and the hub's parameters", r.URI, path)
	}
	for name, own := range map[string]string{"hub.mode": "subscribe", "hub.topic": topic} {
		if got := r.Values(name); len(got) != 2 || got[0] != "mine" || got[1] != own {
			t.Errorf("%s: got %q, want the callback's own and then %q", name, got, own)
		}
	}
	if got := r.Values("hub.challenge"); len(got) != 2 || got[0] != "mine" || got[1] == "mine" {
		t.Errorf("hub.challenge: got %q, want the callback's own and the hub's", got)
	}
}

func TestRule28ContentGoesToTheCallbackWithItsQuery(t *testing.T) {
	n := shared(t)
	for _, path := range callbackQueries {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			s := hubtest.NewSubscriber(t)
			n.Subscribe(t, topic, s.Callback(path))
			n.Publish(t, topic, "text/plain", []byte("content"))
			want := path
			if strings.HasPrefix(path, "?") {
				want = "/" + path
			}
			if d := s.WaitDeliveries(t, 1)[0]; d.URI != want || string(d.Body) != "content" {
				t.Errorf("got %s with body %q, want %s with the content alone", d.URI, d.Body, want)
			}
		})
	}
}

func TestRule39VerificationRequest(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.lease_seconds", "4000", "hub.secret", "geheim")
	r := s.WaitIntent(t, "subscribe", 1)
	if r.Method != "GET" || len(r.Body) != 0 {
		t.Errorf("got %s with %d bytes, want GET without a body", r.Method, len(r.Body))
	}
	if got := r.Values("hub.mode"); len(got) != 1 || got[0] != "subscribe" {
		t.Errorf("hub.mode: %q", got)
	}
	if got := r.Values("hub.topic"); len(got) != 1 || got[0] != topic {
		t.Errorf("hub.topic: got %q, want %q", got, topic)
	}
	if got := r.Values("hub.challenge"); len(got) != 1 || len(got[0]) < 22 {
		t.Errorf("hub.challenge: got %q, want one of at least 128 random bits", got)
	}
	if got := r.Values("hub.lease_seconds"); len(got) != 1 || got[0] != "4000" {
		t.Errorf("hub.lease_seconds: got %q, want 4000", got)
	}
	if strings.Contains(r.URI, "geheim") || r.Value("hub.secret") != "" {
		t.Errorf("the verification shows the secret: %s", r.URI)
	}
	n.Unsubscribe(t, topic, callback)
	u := s.WaitIntent(t, "unsubscribe", 1)
	if u.Value("hub.topic") != topic || u.Value("hub.challenge") == "" {
		t.Errorf("unsubscribe is verified with %s", u.URI)
	}
}

// Verification requests name the topic as the subscriber wrote it, not in its normal form.
func TestRule39TopicIsNamedAsGiven(t *testing.T) {
	n := shared(t)
	name := topicName(t)
	for _, topic := range []string{
		"HTTP://Publisher.Example:80/" + name + "/%7euser?b=2&a=1",
		"http://publisher.example/" + name + "?q=a+b%20c&x=%2F",
		n.URL + "/topics/" + name + "%2D1",
	} {
		s := hubtest.NewSubscriber(t)
		wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
		if got := s.WaitIntent(t, "subscribe", 1).Value("hub.topic"); got != topic {
			t.Errorf("got hub.topic %q, want %q", got, topic)
		}
	}
}

func TestRule40LeaseCountsFromTheVerificationRequest(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	const wait = 1500 * time.Millisecond
	s := hubtest.NewSubscriber(t).OnIntent(func(r hubtest.Request) hubtest.Answer {
		a := hubtest.Echo(r)
		a.Delay = wait
		return a
	})
	item := n.Subscribe(t, topic, s.Callback("/cb"), "hub.lease_seconds", "600")
	asked := s.WaitIntent(t, "subscribe", 1)
	lease, err := strconv.Atoi(asked.Value("hub.lease_seconds"))
	if err != nil || lease != 600 {
		t.Fatalf("hub.lease_seconds %q, want 600", asked.Value("hub.lease_seconds"))
	}
	end := asked.At.Add(600 * time.Second)
	if d := item.LeaseExpiresAt.Sub(end); d > wait/2 || d < -wait {
		t.Errorf("the lease ends at %v; 600 s after the verification request is %v", item.LeaseExpiresAt, end)
	}
}

func TestRule41AnyTwoHundredConfirms(t *testing.T) {
	n := shared(t)
	for _, code := range []int{200, 201, 202, 203, 206, 226, 299} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			s := hubtest.NewSubscriber(t).OnIntent(func(r hubtest.Request) hubtest.Answer {
				return hubtest.Answer{Status: code, Body: []byte(r.Value("hub.challenge")),
					Header: hubtest.Headers("Content-Type", "application/octet-stream")}
			})
			n.Subscribe(t, topic, s.Callback("/cb"))
		})
	}
}

// refusedBy asserts that answering like this creates no subscription.
func refusedBy(t *testing.T, n *hubtest.Node, answer func(hubtest.Request) hubtest.Answer) *hubtest.Subscriber {
	t.Helper()
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnIntent(answer)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
	s.WaitIntent(t, "subscribe", 1)
	n.WaitSettled(t, topic, s.Callback("/cb"))
	if items := n.Subscriptions(t, topic, s.Callback("/cb")); len(items) > 0 && items[0].State == "active" {
		t.Errorf("the subscription is active: %+v", items)
	}
	control, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("x"))
	control.WaitBody(t, "x")
	quietly(t, "deliveries without confirmed intent", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 0 {
		t.Errorf("got %d deliveries without confirmed intent", got)
	}
	return s
}

func TestRule42OtherStatusesFail(t *testing.T) {
	n := shared(t)
	for _, code := range []int{300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 410, 429, 500, 503} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			target := hubtest.NewSubscriber(t) // would confirm every request
			refusedBy(t, n, func(r hubtest.Request) hubtest.Answer {
				return hubtest.Answer{Status: code, Body: []byte(r.Value("hub.challenge")),
					Header: hubtest.Headers("Location", target.URL+"/elsewhere?"+r.RawQuery())}
			})
			if got := target.Requests(); len(got) != 0 {
				t.Errorf("the redirect was followed: %v", got)
			}
		})
	}
}

func TestRule43AnotherBodyFails(t *testing.T) {
	n := shared(t)
	for name, body := range map[string]func(challenge string) string{
		"empty":            func(string) string { return "" },
		"trailing newline": func(c string) string { return c + "\n" },
		"trailing CRLF":    func(c string) string { return c + "\r\n" },
		"leading blank":    func(c string) string { return " " + c },
		"leading BOM":      func(c string) string { return "\ufeff" + c },
		"trailing junk":    func(c string) string { return c + "junk" },
		"long junk":        func(c string) string { return c + strings.Repeat("junk", 100_000) },
		"trailing NUL":     func(c string) string { return c + "\x00" },
		"a prefix":         func(c string) string { return c[:len(c)-1] },
		"twice":            func(c string) string { return c + c },
		"quoted":           func(c string) string { return `"` + c + `"` },
		"form":             func(c string) string { return "hub.challenge=" + url.QueryEscape(c) },
		"case changed":     swapCase,
		"something else":   func(string) string { return "ok" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusedBy(t, n, func(r hubtest.Request) hubtest.Answer {
				return hubtest.Answer{Body: []byte(body(r.Value("hub.challenge")))}
			})
		})
	}
	t.Run("204", func(t *testing.T) {
		t.Parallel()
		refusedBy(t, n, func(hubtest.Request) hubtest.Answer { return hubtest.Status(204) })
	})
	t.Run("cut off", func(t *testing.T) {
		t.Parallel()
		refusedBy(t, n, func(r hubtest.Request) hubtest.Answer {
			return hubtest.Answer{Body: []byte(r.Value("hub.challenge")), Cut: true}
		})
	})
	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		refusedBy(t, n, func(r hubtest.Request) hubtest.Answer {
			return hubtest.Answer{Body: []byte(r.Value("hub.challenge")), Endless: true}
		})
	})
}

// swapCase returns a text of the same length that differs in case, or in its first character if it has no
// letters.
func swapCase(s string) string {
	if up := strings.ToUpper(s); up != s {
		return up
	}
	if low := strings.ToLower(s); low != s {
		return low
	}
	return "x" + s[1:]
}

func TestRule44NotFoundIsADefiniteNo(t *testing.T) {
	n := shared(t)
	s := refusedBy(t, n, func(hubtest.Request) hubtest.Answer { return hubtest.Status(404) })
	if got := s.CountIntents(); got != 1 {
		t.Errorf("asked %d times, want once: 404 is a definite answer", got)
	}
}

func TestRule45ChallengesAreRandomAndSingleUse(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	seen := map[string]bool{}
	for i := range 20 {
		wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb"), "hub.lease_seconds", strconv.Itoa(100+i)), 202)
		s.WaitIntent(t, "subscribe", i+1)
	}
	var all [][]byte
	for _, r := range s.Intents("subscribe") {
		c := r.Value("hub.challenge")
		if seen[c] {
			t.Errorf("challenge %q was used twice", c)
		}
		seen[c] = true
		all = append(all, []byte(c))
	}
	for i := 1; i < len(all); i++ { // unlike counters, successive challenges share no long prefix
		same := 0
		for same < min(len(all[i]), len(all[i-1])) && all[i][same] == all[i-1][same] {
			same++
		}
		if same > len(all[i])/2 {
			t.Errorf("challenges %q and %q look sequential", all[i-1], all[i])
		}
	}
	// The challenge of an earlier request confirms nothing.
	old := s.Intents("subscribe")[0].Value("hub.challenge")
	other := refusedBy(t, n, func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Body: []byte(old)} })
	if bytes.Equal([]byte(other.Intents("subscribe")[0].Value("hub.challenge")), []byte(old)) {
		t.Error("an old challenge was used again")
	}
}
