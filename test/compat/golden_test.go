package compat_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// raw sends a request byte for byte on its own connection and returns the response's status line,
// Content-Type and body verbatim. It leaves out what no client looks at, such as dates and IDs.
func raw(t *testing.T, n *hubtest.Node, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hubtest.Patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	in := bufio.NewReader(io.TeeReader(conn, &seen))
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("%v in %q", err, seen.String())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(seen.String(), "\r\n")
	out := line + "\n"
	for _, h := range []string{"Content-Type", "WWW-Authenticate", "Location"} {
		for _, v := range resp.Header[http.CanonicalHeaderKey(h)] {
			out += h + ": " + v + "\n"
		}
	}
	return out + "\n" + string(body)
}

// post returns a request as the clients write it: header lines in this order, then the body.
func post(target, body string, header ...string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.Join(append(header, ""), "\r\n") +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

func form(body string, header ...string) string {
	return post("/hub/", body, append([]string{"Content-Type: " + formType + ";charset=UTF-8"}, header...)...)
}

const (
	okLine       = "HTTP/1.1 200 OK\n"
	acceptedLine = "HTTP/1.1 202 Accepted\n"
	badLine      = "HTTP/1.1 400 Bad Request\n"
	asForm       = "Content-Type: application/x-www-form-urlencoded\n\n"
	asText       = "Content-Type: text/plain\n\n"
)

// exchange is one request with the exact answer in each profile.
type exchange struct {
	name, request    string
	ballerina, mosip string // empty mosip: same as ballerina
}

const unsupportedType = badLine + asText + "Endpoint only supports content type of application/x-www-form-urlencoded, application/json, application/xml, " +
	"application/octet-stream and text/plain"

// wire lists the references' answers for every mode, content type and error code, without access control.
// Clients depend on these texts, so they must not change.
var wire = []exchange{
	{"R8 register", form("hub.mode=register&hub.topic=T"), okLine + asForm + "hub.mode=accepted", ""},
	{"R1 register again", form("hub.mode=register&hub.topic=T"),
		"HTTP/1.1 409 Conflict\n" + asForm + "hub.mode=denied&hub.reason=Topic has already registered with the Hub",
		okLine + asForm + "hub.mode=denied&hub.reason=Topic has already registered with the Hub"},
	{"deregister an unknown topic", form("hub.mode=deregister&hub.topic=none"),
		"HTTP/1.1 404 Not Found\n" + asForm + "hub.mode=denied&hub.reason=Topic has not been registered in the Hub",
		okLine + asForm + "hub.mode=denied&hub.reason=Topic has not been registered in the Hub"},
	{"R7 unregister", form("hub.mode=unregister&hub.topic=none"),
		badLine + asText + "The request does not include valid `hub.mode` form param.",
		okLine + asForm + "hub.mode=denied&hub.reason=Topic has not been registered in the Hub"},
	{"R8 publish JSON", post("/hub?hub.mode=publish&hub.topic=T", `{"a":1}`, "Content-Type: application/json"), okLine + asForm + "hub.mode=accepted", ""},
	{"publish XML", post("/hub/?hub.mode=publish&hub.topic=T", `<a/>`, "Content-Type: application/xml"), okLine + asForm + "hub.mode=accepted", ""},
	{"publish text", post("/hub?hub.mode=publish&hub.topic=T", `a`, "Content-Type: text/plain; charset=utf-8"), okLine + asForm + "hub.mode=accepted", ""},
	{"publish bytes", post("/hub?hub.mode=publish&hub.topic=T", "\x00", "Content-Type: application/octet-stream"), okLine + asForm + "hub.mode=accepted", ""},
	{"publish a form", post("/hub?hub.mode=publish&hub.topic=T", "a=1", "Content-Type: "+formType, "x-ballerina-publisher: publish"), okLine + asForm + "hub.mode=accepted", ""},
	{"publish an event", form("hub.mode=publish&hub.topic=T", "x-ballerina-publisher: event"), okLine + asForm + "hub.mode=accepted", ""},
	{"publish to an unknown topic", post("/hub?hub.mode=publish&hub.topic=none", `{}`, "Content-Type: application/json"),
		"HTTP/1.1 404 Not Found\n" + asForm + "hub.mode=denied&hub.reason=Topic [none] is not registered with the Hub", okLine + asForm + "hub.mode=accepted"},
	{"R7 publish without a topic", post("/hub?hub.mode=publish", "a=1", "Content-Type: "+formType, "x-ballerina-publisher: publish"),
		badLine + asText + "Empty value found for parameter 'hub.topic'", ""},
	{"R7 another content type", post("/hub?hub.mode=publish&hub.topic=T", `{}`, "Content-Type: application/vnd.ford.car+json"), unsupportedType, ""},
	{"feeds", post("/hub?hub.mode=publish&hub.topic=T", `<a/>`, "Content-Type: application/atom+xml"), unsupportedType, ""},
	{"cloud events", post("/hub?hub.mode=publish&hub.topic=T", `{}`, "Content-Type: application/cloudevents+json"), unsupportedType, ""},
	{"HTML", post("/hub?hub.mode=publish&hub.topic=T", `x`, "Content-Type: text/html"), unsupportedType, ""},
	{"no content type", post("/hub?hub.mode=publish&hub.topic=T", ""), unsupportedType, ""},
	{"another publisher", form("hub.mode=publish&hub.topic=T", "x-ballerina-publisher: other"), badLine + asText + "Invalid value for header x-ballerina-publisher", ""},
	{"no mode", form("hub.topic=T"), badLine + asText + "The request does not include valid `hub.mode` form param.", ""},
	{"no topic", form("hub.mode=register"), badLine + asText + "Empty value found for parameter 'hub.topic'", ""},
	{"no callback", form("hub.mode=subscribe&hub.topic=T"), badLine + asText + "Empty value found for parameter 'hub.callback'", ""},
	{"deregister", form("hub.mode=deregister&hub.topic=T"), okLine + asForm + "hub.mode=accepted", ""},
	{"health", "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", okLine + "Content-Type: application/json\n\n" + `{"status":"active"}`, ""},
	{"hub health", "GET /hub/actuator/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", okLine + "Content-Type: application/json\n\n" + `{"status":"UP"}`, ""},
	{"consolidator health", "GET /consolidator/actuator/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", okLine + "Content-Type: application/json\n\n" + `{"status":"UP"}`, ""},
	{"status of an unknown subscription", "GET /consolidator/subscriptions/status?topic=T&callback=http%3A%2F%2Fx%2F HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"HTTP/1.1 404 Not Found\nContent-Type: application/json\n\n" + `{"message":"Subscription not found for the given topic and callback"}` + "\n", ""},
}

func TestGoldenWire(t *testing.T) {
	for _, profile := range []string{"ballerina", "mosip"} {
		t.Run(profile, func(t *testing.T) {
			n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": profile, "topics.auto_register": nil, "hub.lease.default": "24h"}})
			for _, x := range wire {
				want := x.ballerina
				if profile == "mosip" && x.mosip != "" {
					want = x.mosip
				}
				if got := raw(t, n, x.request); got != want {
					t.Errorf("%s:\n%s\nwant\n%s", x.name, got, want)
				}
			}
		})
	}
}

// Requests R1 to R4 with tokens, in both profiles where both specify them.
func TestGoldenAccess(t *testing.T) {
	is := newIssuer(t)
	const topic = "mpartner-default-print%2FCREDENTIAL_ISSUED"
	for _, profile := range []string{"ballerina", "mosip"} {
		t.Run(profile, func(t *testing.T) {
			rules, settings, no, noSub := ballerinaRules, "", "Not authorized", "Not authorized"
			head := func(token string) string { return "Authorization: Bearer " + token }
			publisher, subscriber, status := is.token("p", "register_topic update_content"), is.token("s", "subscribe"), is.token("s", "register_topic update_content")
			wrong := is.token("s", "register_topic")
			if profile == "mosip" {
				rules, settings, no, noSub = mosipRules, ", cookie: Authorization", "Publisher is not authorized", "Subscriber is not authorized"
				head = func(token string) string { return "Cookie: Authorization=" + token }
				publisher = is.token(creator, "", "PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL")
				subscriber = is.token(printUser, "", "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL", "SUBSCRIBE_CREDENTIAL_STATUS_UPDATE_GENERAL")
				status = is.token(printUser, "", "PUBLISH_CREDENTIAL_STATUS_UPDATE_GENERAL")
				wrong = is.token("service-account-other", "", "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL")
			}
			n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": profile, "hub.compact_json": true, "topics.auto_register": nil,
				"hub.lease.default": "24h", "auth.mode": "required", "auth.file": settingsFile(t, is, settings, rules), "auth.egress.mode": "dev-loopback"}})
			step := func(name, request, want string) {
				t.Helper()
				if got := raw(t, n, request); got != want {
					t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
				}
			}
			denied := func(line, reason string) string { return line + asForm + "hub.mode=denied&hub.reason=" + reason }
			already := map[string]string{"ballerina": "HTTP/1.1 409 Conflict\n", "mosip": okLine}[profile]
			step("R1", form("hub.mode=register&hub.topic="+topic, head(publisher)), okLine+asForm+"hub.mode=accepted")
			step("R1 again", form("hub.mode=register&hub.topic="+topic, head(publisher)), denied(already, "Topic has already registered with the Hub"))
			step("R1 of a subscriber", form("hub.mode=register&hub.topic=other%2FX", head(subscriber)), denied(okLine, no))
			step("R1 without a token", form("hub.mode=register&hub.topic="+topic), denied(okLine, no))

			printer := hubtest.NewSubscriber(t)
			printer.OnIntent(func(r hubtest.Request) hubtest.Answer {
				return hubtest.Answer{Status: 202, Body: []byte(r.Value("hub.challenge"))}
			})
			subscribe := "hub.mode=subscribe&hub.topic=" + topic + "&hub.callback=" + url.QueryEscape(printer.Callback("/notifyPrint")) + "&hub.secret=Kslk30SNF2AChs2"
			step("R2 of another user", form(subscribe, head(wrong)), denied("HTTP/1.1 500 Internal Server Error\n", noSub))
			step("R2 without a token", form(subscribe), denied("HTTP/1.1 500 Internal Server Error\n", noSub))
			step("R2", form(subscribe, head(subscriber)), acceptedLine+asForm+"hub.mode=accepted")
			asked := printer.WaitIntent(t, "subscribe", 1)
			if asked.Value("hub.topic") != printTopic || asked.Value("hub.lease_seconds") != "86400" || asked.Value("hub.challenge") == "" {
				t.Errorf("unexpected verification request %s", asked.URI)
			}
			step("R3", post("/hub/?hub.mode=publish&hub.topic="+printTopic, credential, "Content-Type: application/json;charset=UTF-8", head(publisher)), okLine+asForm+"hub.mode=accepted")
			got := printer.WaitDeliveries(t, 1)[0]
			if string(got.Body) != credential || got.Header.Get("Content-Type") != "application/json" ||
				got.Header.Get("X-Hub-Signature") != "sha256=3db6edff2eb0ab3104fdfb793191c2a5f59f20a7522d4724f312859b72ed75e5" {
				t.Errorf("R3 delivers %v %q", got.Header, got.Body)
			}
			step("R2 again: a renewal, which the original hubs deny", form(subscribe, head(subscriber)), acceptedLine+asForm+"hub.mode=accepted")
			printer.WaitIntent(t, "subscribe", 2)

			if profile == "ballerina" {
				step("R4 registers first", form("hub.mode=register&hub.topic=CREDENTIAL_STATUS_UPDATE", head(status)), okLine+asForm+"hub.mode=accepted")
			}
			requester := hubtest.NewSubscriber(t)
			step("R4 subscribe", form("hub.mode=subscribe&hub.topic=CREDENTIAL_STATUS_UPDATE&hub.callback="+url.QueryEscape(requester.Callback("/notifyStatus"))+
				"&hub.secret=test", head(subscriber)), acceptedLine+asForm+"hub.mode=accepted")
			requester.WaitIntent(t, "subscribe", 1)
			const update = `{"publisher":"PRINT_SERVICE","topic":"CREDENTIAL_STATUS_UPDATE","publishedOn":"2025-01-15T10:20:31.000Z","event":{"id":"1","requestId":"2","timestamp":"2025-01-15 10:20:31.0","status":"printing","url":"http://x/"}}`
			step("R4", post("/hub/?hub.mode=publish&hub.topic=CREDENTIAL_STATUS_UPDATE", update, "Content-Type: application/json", head(status)), okLine+asForm+"hub.mode=accepted")
			if got := requester.WaitDeliveries(t, 1)[0]; string(got.Body) != update || got.Header.Get("X-Hub-Signature") != hubtest.Sign("sha256", "test", []byte(update)) {
				t.Errorf("R4 delivers %v %q", got.Header, got.Body)
			}
			if profile == "mosip" {
				step("unsubscribe of another user", form(strings.Replace(subscribe, "subscribe", "unsubscribe", 1), head(wrong)), denied("HTTP/1.1 500 Internal Server Error\n", noSub))
			}
			step("unsubscribe", form(strings.Replace(subscribe, "subscribe", "unsubscribe", 1), head(subscriber)), acceptedLine+asForm+"hub.mode=accepted")
			printer.WaitIntent(t, "unsubscribe", 1)
		})
	}
}

// Request R6 on a real hub: a subscriber that failed fetches the messages it missed.
func TestGoldenFailedContent(t *testing.T) {
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.profile": "mosip", "hub.compact_json": true, "topics.auto_register": nil,
		"hub.lease.default": "24h", "delivery.retry.refused_attempts": 1}})
	sub := hubtest.NewSubscriber(t)
	callback := sub.Callback("/cb")
	if got := raw(t, n, form("hub.mode=subscribe&hub.topic=demo&hub.callback="+url.QueryEscape(callback)+"&hub.secret=OIUAShdasoi")); got != acceptedLine+asForm+"hub.mode=accepted" {
		t.Fatal(got)
	}
	n.WaitActive(t, "demo", callback)
	sub.OnDelivery(func(r hubtest.Request) hubtest.Answer {
		if strings.Contains(string(r.Body), "refused") {
			return hubtest.Answer{Status: 404}
		}
		return hubtest.Answer{Status: 200}
	})
	for _, body := range []string{`{"event":"taken"}`, `{"event":"refused"}`} {
		raw(t, n, post("/hub/?hub.mode=publish&hub.topic=demo", body, "Content-Type: application/json"))
	}
	sub.WaitDeliveries(t, 2)
	const since = "2021-08-30T12:39:23.511446100Z"
	mac := hmac.New(sha256.New, []byte("OIUAShdasoi"))
	mac.Write([]byte("demo" + callback + since + "0" + "10"))
	request := "GET /hub/?topic=demo&callback=" + base64.URLEncoding.EncodeToString([]byte(callback)) + "&timestamp=" + since +
		"&pageindex=0&messageCount=10 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nX-Subscriber-Signature: " + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + "\r\n\r\n"
	hubtest.Eventually(t, "the refused message", func() error {
		var got struct {
			FailedContents []struct{ Message, Timestamp string } `json:"failedcontents"`
		}
		answer := raw(t, n, request)
		body, ok := strings.CutPrefix(answer, okLine+"Content-Type: application/json\n\n")
		if err := json.Unmarshal([]byte(body), &got); !ok || err != nil {
			t.Fatalf("%v %s", err, answer)
		}
		if len(got.FailedContents) != 1 || got.FailedContents[0].Message != `{"event":"refused"}` {
			return fmt.Errorf("%s", body)
		}
		if _, err := time.Parse(time.RFC3339Nano, got.FailedContents[0].Timestamp); err != nil {
			t.Error(err)
		}
		return nil
	})
}

// The profile's sample configuration contains the four scopes that the access tests use.
func TestSampleScopes(t *testing.T) {
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "configs", "ballerina-auth.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "\nrules:\n")
	for line := range strings.SplitSeq(strings.TrimSpace(ballerinaRules), "\n") {
		if strings.Contains(line, "topics:") && !strings.Contains(rules, strings.TrimSpace(line)) {
			t.Errorf("the sample lacks %s", strings.TrimSpace(line))
		}
	}
}
