package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"quorumhub/test/hubtest"
)

func setCallback(t *testing.T, n *hubtest.Node, body map[string]any) *hubtest.Reply {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var reply *hubtest.Reply
	hubtest.Eventually(t, "the hub has agreed on its feature level", func() error {
		reply = n.Do(t, http.MethodPut, "/v1/callback-credentials", hubtest.Headers("Content-Type", "application/json"), text)
		if reply.Status == http.StatusServiceUnavailable {
			return errors.New(reply.String())
		}
		return nil
	})
	return reply
}

// demanding returns a subscriber that answers 401 to whatever lacks a header.
func demanding(t *testing.T, name, value string) *hubtest.Subscriber {
	s := hubtest.NewSubscriber(t)
	demand := func(then func(hubtest.Request) hubtest.Answer) func(hubtest.Request) hubtest.Answer {
		return func(r hubtest.Request) hubtest.Answer {
			if r.Header.Get(name) != value {
				return hubtest.Status(http.StatusUnauthorized)
			}
			return then(r)
		}
	}
	return s.OnIntent(demand(hubtest.Echo)).OnDelivery(demand(func(hubtest.Request) hubtest.Answer { return hubtest.Status(204) }))
}

// A callback behind a gateway gets what it demands, with verifications and with deliveries of any size.
func TestCallbackCredentials(t *testing.T) {
	t.Parallel()
	var issued atomic.Int32
	idp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != "hub" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		issued.Add(1)
		_, _ = w.Write([]byte(`{"access_token":"tok","token_type":"bearer","expires_in":300}`))
	}))
	t.Cleanup(idp.Close)
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.subscriber_headers": true}})
	wantStatus(t, "set and removed", setCallback(t, n, map[string]any{"callback": "b.example", "bearer": "x"}), 200)
	wantStatus(t, "removed", n.Do(t, http.MethodDelete, "/v1/callback-credentials?callback=B.example", nil, nil), 204)
	for name, c := range map[string]struct {
		header, value string
		set           map[string]any
		more          []string
	}{
		"basic":   {"Authorization", "Basic dTpwdw==", map[string]any{"basic": map[string]string{"user": "u", "password": "pw"}}, nil},
		"bearer":  {"Authorization", "Bearer t0k", map[string]any{"bearer": "t0k"}, nil},
		"headers": {"X-Api-Key", "k3y", map[string]any{"headers": map[string]string{"x-api-key": "k3y"}}, nil},
		"oauth2": {"Authorization", "Bearer tok", map[string]any{"oauth2": map[string]string{
			"token_url": idp.URL + "/token", "client_id": "hub", "client_secret": "s3cret"}}, nil},
		"subscriber": {"X-Api-Key", "mine", nil, []string{"hub.header.X-Api-Key", "mine"}},
	} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t, n)
			s := demanding(t, c.header, c.value)
			if c.set != nil {
				c.set["callback"] = strings.TrimPrefix(s.URL, "http://")
				r := setCallback(t, n, c.set)
				wantStatus(t, "set", r, 200)
				if text := string(r.Body); strings.Contains(text, "pw") || strings.Contains(text, "t0k") || strings.Contains(text, "k3y") || strings.Contains(text, "s3cret") {
					t.Errorf("the answer shows a secret: %s", text)
				}
			}
			n.Subscribe(t, topic, s.Callback("/cb"), append(c.more, "hub.secret", "sign")...)
			large := bytes.Repeat([]byte("x"), 400_000)
			n.Publish(t, topic, "text/plain", []byte("small"))
			n.Publish(t, topic, "text/plain", large)
			if d := s.WaitBody(t, "small"); !d.SignedBy("sign") {
				t.Error("not signed")
			}
			s.WaitBody(t, string(large))
			for _, d := range s.Requests() {
				if got := d.Header.Values(c.header); len(got) != 1 || got[0] != c.value {
					t.Errorf("%s %s has %s %q", d.Method, d.URI, c.header, got)
				}
			}
		})
	}
	if issued.Load() != 1 {
		t.Errorf("%d tokens for one pattern", issued.Load())
	}
	var page struct {
		Items []struct{ Callback, Kind string }
	}
	if text := n.GetJSON(t, "/v1/callback-credentials", &page); len(page.Items) != 4 || page.Items[0].Kind == "" && page.Items[1].Kind == "" || strings.Contains(string(text), "s3cret") {
		t.Errorf("listed: %s", text)
	}
	wantStatus(t, "remove", n.Do(t, http.MethodDelete, "/v1/callback-credentials?callback="+page.Items[0].Callback, nil, nil), 204)
	wantStatus(t, "remove again", n.Do(t, http.MethodDelete, "/v1/callback-credentials?callback="+page.Items[0].Callback, nil, nil), 404)
	wantStatus(t, "nothing to send", setCallback(t, n, map[string]any{"callback": "a.example"}), 400)
	wantStatus(t, "a token service inside", setCallback(t, n, map[string]any{"callback": "a.example", "oauth2": map[string]string{
		"token_url": "https://169.254.169.254/", "client_id": "hub", "client_secret": "s3cret"}}), 403)
}

// By default, only operators choose headers.
func TestHeadersOfSubscribersAreOffByDefault(t *testing.T) {
	n := shared(t)
	r := n.Request(t, "subscribe", newTopic(t, n), hubtest.NewSubscriber(t).Callback("/cb"), "hub.header.X-Api-Key", "k")
	wantStatus(t, "subscribe", r, 403)
}
