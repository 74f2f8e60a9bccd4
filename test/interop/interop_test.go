package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// The npm package adds ?topic=...&hub=... to its callback, which shows whether the hub keeps a callback's
// query. It is used without a secret, because with one it verifies with a different key than it sends to the
// hub.
func TestNPMPubsubhubbub(t *testing.T) {
	node := needsNPM(t, "pubsubhubbub", "1.0.2")
	n := hubtest.Start(t, hubtest.Options{})
	origin := hubtest.NewOrigin(t)
	feed := []byte("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\r\n<feed><title>Stra\xdfe</title></feed>\n")
	topic := origin.Put("/feed?format=atom&page=1", hubtest.Page{ContentType: "application/atom+xml; charset=ISO-8859-1", Body: feed})

	d := startDriver(t, node, "pubsubhubbub.cjs", n.HubURL(), topic)
	if e := d.wait(t, "subscribe"); e.Topic != topic || e.Hub != n.HubURL() || e.Lease < 3500 || e.Lease > 3610 {
		t.Errorf("asked to confirm %+v", e)
	}
	n.WaitSubscription(t, topic, "", "an active subscription", func(s hubtest.Subscription) bool { return s.State == "active" })
	n.Ping(t, topic)
	if e := d.wait(t, "feed"); !bytes.Equal(e.Body, feed) || e.Type != "application/atom+xml; charset=ISO-8859-1" || e.Topic != topic || e.Hub != n.HubURL() {
		t.Errorf("received %q of type %q for topic %s from hub %s", e.Body, e.Type, e.Topic, e.Hub)
	}
	d.tell(t, "unsubscribe")
	if e := d.wait(t, "unsubscribe"); e.Topic != topic {
		t.Errorf("asked to confirm %+v", e)
	}
	hubtest.Eventually(t, "the end of the subscription", func() error {
		subs, err := n.ListSubscriptions(topic, "")
		for _, s := range subs {
			if s.State == "active" {
				return fmt.Errorf("still there: %+v", s)
			}
		}
		return err
	})
}

// The npm package's topic is fixed to an outside address, so the content is published in full. The package
// silently ignores content with a wrong signature, so whatever it reports was signed correctly.
func TestNPMYoutubeNotification(t *testing.T) {
	node := needsNPM(t, "youtube-notification", "1.1.0")
	for _, method := range []string{"sha256", "sha1"} {
		t.Run(method, func(t *testing.T) {
			n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.signature": method}})
			channel := "UC1"
			topic := "https://www.youtube.com/xml/feeds/videos.xml?channel_id=" + channel
			d := startDriver(t, node, "youtube-notification.cjs", n.HubURL(), channel, "a secret & more")
			if e := d.wait(t, "subscribe"); e.Channel != channel || e.Lease <= 0 {
				t.Errorf("asked to confirm %+v", e)
			}
			n.WaitSubscription(t, topic, "", "an active subscription", func(s hubtest.Subscription) bool { return s.State == "active" })
			for i := range 3 {
				video := fmt.Sprint("video", i)
				n.Publish(t, topic, "application/atom+xml", videoFeed(video, channel))
				if e := d.wait(t, "notified"); e.Video != video || e.Channel != channel || e.Title != "Größe & mehr" {
					t.Errorf("reported %+v", e)
				}
			}
			d.tell(t, "unsubscribe")
			d.wait(t, "unsubscribe")
		})
	}
}

func videoFeed(id, channel string) []byte {
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns:yt="http://www.youtube.com/xml/schemas/2015" xmlns="http://www.w3.org/2005/Atom">
 <entry><id>yt:video:%[1]s</id><yt:videoId>%[1]s</yt:videoId><yt:channelId>%[2]s</yt:channelId>
 <title>Größe &amp; mehr</title><link rel="alternate" href="https://www.youtube.com/watch?v=%[1]s"/>
 <author><name>n</name><uri>https://www.youtube.com/channel/%[2]s</uri></author>
 <published>2026-01-01T00:00:00+00:00</published><updated>2026-01-01T01:00:00+00:00</updated></entry>
</feed>`, id, channel)
}

// Third-party code verifies deliveries signed with each method.
func TestNPMXHubSignature(t *testing.T) {
	node := needsNPM(t, "x-hub-signature", "2.1.3")
	n := hubtest.Start(t, hubtest.Options{})
	checker := startDriver(t, node, "x-hub-signature.mjs")
	verified := func(secret, signature string, body []byte) bool {
		line, err := json.Marshal(map[string]any{"secret": secret, "signature": signature, "body": body})
		if err != nil {
			t.Fatal(err)
		}
		checker.tell(t, string(line))
		return checker.line(t, "the result of a check") == "true"
	}
	const secret = "pässwörd & 100%"
	binary := make([]byte, 4096)
	for i := range binary {
		binary[i] = byte(i * 7)
	}
	for _, method := range []string{"sha1", "sha256", "sha384", "sha512"} {
		t.Run(method, func(t *testing.T) {
			topic := n.TopicURL("signed-" + method)
			s := hubtest.NewSubscriber(t)
			n.Subscribe(t, topic, s.Callback("/cb"), "hub.secret", secret, "hub.hash_algorithms", method)
			for i, body := range [][]byte{[]byte("plain"), binary, []byte("ünïcödé\r\n")} {
				n.Publish(t, topic, "application/octet-stream", body)
				got := s.WaitDeliveries(t, i+1)[i]
				signature := got.Header.Get("X-Hub-Signature")
				if !strings.HasPrefix(signature, method+"=") {
					t.Fatalf("X-Hub-Signature %q, want %s", signature, method)
				}
				if !verified(secret, signature, got.Body) {
					t.Errorf("%s of %d bytes is not verified", signature, len(got.Body))
				}
				if verified(secret, signature, append(got.Body, 'x')) || verified(secret+"x", signature, got.Body) {
					t.Error("a wrong body or secret passes too, so the check proves nothing")
				}
			}
		})
	}
}

// The PHP library returns true only for 204, and sends several hub.url in one request.
func TestDebianPHPPublisher(t *testing.T) {
	php := needsProgram(t, "php", "php-cli")
	const library = "/usr/share/php/Pubsubhubbub/Publisher/autoload.php"
	if _, err := os.Stat(library); err != nil {
		missing(t, library, "apt-get install php-pubsubhubbub-publisher")
	}
	version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "php-pubsubhubbub-publisher").Output()
	if err != nil {
		version = []byte("of unknown version")
	}
	ran(t, "Debian php-pubsubhubbub-publisher "+string(version)+" on "+firstLine(t, php, "--version"))

	n := hubtest.Start(t, hubtest.Options{})
	origin := hubtest.NewOrigin(t)
	atom := origin.Put("/feed?do=atom&a=1", hubtest.Page{ContentType: "application/atom+xml", Body: []byte("<feed/>")})
	rss := origin.Put("/feed?do=rss", hubtest.Page{ContentType: "application/rss+xml", Body: []byte("<rss/>")})
	publish := func(topics ...string) string {
		t.Helper()
		d := startDriver(t, php, append([]string{"publisher.php", n.HubURL()}, topics...)...)
		return d.line(t, "the library's result")
	}
	if got := publish(atom, rss); got != "true" { // no subscribers yet
		t.Errorf("without subscribers the library returned %s", got)
	}
	s := hubtest.NewSubscriber(t)
	n.Subscribe(t, atom, s.Callback("/cb"))
	n.Subscribe(t, rss, s.Callback("/cb"))
	if got := publish(atom, rss); got != "true" {
		t.Errorf("the library returned %s", got)
	}
	s.WaitBody(t, "<feed/>")
	s.WaitBody(t, "<rss/>")
	if got := publish(atom); got != "true" {
		t.Errorf("for one topic the library returned %s", got)
	}
}

// The steps that a newcomer takes by hand.
func TestCurl(t *testing.T) {
	curl := needsProgram(t, "curl", "curl")
	ran(t, firstLine(t, curl, "--version"))
	n := hubtest.Start(t, hubtest.Options{})
	topic := n.TopicURL("news")
	s := hubtest.NewSubscriber(t)
	run := func(args ...string) string {
		t.Helper()
		args = append([]string{"--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--write-out", "\n%{http_code} %{num_redirects} %{content_type}"}, args...)
		out, err := exec.Command(curl, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	wantCode := func(what, out, code string) {
		t.Helper()
		if lines := strings.Split(out, "\n"); !strings.HasPrefix(lines[len(lines)-1], code+" 0 ") {
			t.Errorf("%s: got %q, want %s", what, out, code)
		}
	}
	wantCode("subscribe", run("--location", "-d", "hub.mode=subscribe", "--data-urlencode", "hub.topic="+topic,
		"--data-urlencode", "hub.callback="+s.Callback("/cb"), n.HubURL()), "202")
	n.WaitActive(t, topic, s.Callback("/cb"))

	file := t.TempDir() + "/body"
	content := bytes.Repeat([]byte("line\r\n\x00\xff"), 20_000)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	// The body is larger than what curl sends without asking for "100 Continue".
	out := run("--location", "-H", "Content-Type: application/x-thing", "--data-binary", "@"+file, topic)
	wantCode("publish to the topic", out, "200")
	if !strings.HasPrefix(out, "hub.mode=accepted") {
		t.Errorf("publish: got %q", out)
	}
	// Without -H, -d sends a form content type. The parameters in the query make the body content all the
	// same.
	wantCode("publish to the hub", run("--location", "-d", "hello=world", n.HubURL()+"?"+hubtest.Form("hub.mode", "publish", "hub.topic", topic)), "200")
	got := s.WaitDeliveries(t, 1)[0]
	if !bytes.Equal(got.Body, content) || got.Header.Get("Content-Type") != "application/x-thing" {
		t.Errorf("delivered %d bytes of type %q", len(got.Body), got.Header.Get("Content-Type"))
	}
	if got := s.WaitBody(t, "hello=world"); got.Header.Get("Content-Type") != hubtest.FormType {
		t.Errorf("the form was delivered as %q", got.Header.Get("Content-Type"))
	}
	// Chunked upload from standard input, HTTP/1.0, and a read of the topic.
	wantCode("upload", run("-T", file, "-X", "POST", "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: text/plain", topic), "200")
	wantCode("HTTP/1.0", run("--http1.0", "-H", "Content-Type: text/plain", "--data-binary", "end", n.HubURL()+"?hub.mode=publish&hub.topic="+topic), "200")
	s.WaitBody(t, "end")
	if out := run(topic); !strings.HasPrefix(out, "end\n200 0 text/plain") {
		t.Errorf("GET of the topic: %q", out)
	}
	wantCode("HEAD", run("--head", topic), "200")
	start := time.Now()
	if out := run("-d", "hub.mode=subscribe", n.HubURL()); !strings.Contains(out, "hub.callback") && !strings.Contains(out, "hub.topic") {
		t.Errorf("an incomplete request got %q, want the missing parameter named", out)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the answer to an incomplete request took %v", took)
	}
}

// A browser's EventSource follows a topic live and through restarts of the hub, without gaps or repeats.
func TestNPMEventSource(t *testing.T) {
	node := needsNPM(t, "eventsource", "4.1.1")
	n := hubtest.Start(t, hubtest.Options{})
	topic := n.TopicURL("news")
	n.Publish(t, topic, "text/plain; charset=utf-8", []byte("before"))
	d := startDriver(t, node, "eventsource.mjs", topic+"?start=earliest")
	expect := func(offset int, contentType, body string) {
		t.Helper()
		if e := d.wait(t, "message"); e.Text != fmt.Sprintf("1-%d", offset) || e.Type != contentType || string(e.Body) != body {
			t.Fatalf("got %+v, want message %d %q", e, offset, body)
		}
	}
	expect(1, "text/plain; charset=utf-8", "before")
	n.Publish(t, topic, "application/atom+xml", []byte("<feed>\r\n\n<title>Straße</title>\n</feed>"))
	expect(2, "application/atom+xml", "<feed>\r\n\n<title>Straße</title>\n</feed>")
	n.Publish(t, topic, "image/png", []byte("\x89PNG\r\n\x1a\n\xff"))
	expect(3, "image/png", "\x89PNG\r\n\x1a\n\xff")

	if code := n.Stop(t); code != 0 {
		t.Errorf("the hub exited with code %d", code)
	}
	if e := d.wait(t, "end"); e.Text != "stopping" {
		t.Errorf("the stream ended with %+v", e)
	}
	n.Restart(t)
	for i := range 20 {
		n.Publish(t, topic, "text/plain", fmt.Appendf(nil, "after %d", i))
	}
	for i := range 20 {
		expect(4+i, "text/plain", fmt.Sprintf("after %d", i))
	}
	n.Kill(t)
	n.Restart(t)
	n.Publish(t, topic, "text/plain", []byte("after the kill"))
	expect(24, "text/plain", "after the kill")
}
