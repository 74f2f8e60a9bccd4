package console

import (
	"fmt"
	"net/http"

	"quorumhub/hub"
)

// reasonWords says in words what a class of failure means.
func reasonWords(reason string, status int) string {
	switch {
	case status >= 200 && status < 300 && (reason == "" || reason == "http-status"):
		return "acknowledged"
	case reason == "http-status" || status != 0 && reason == "":
		return statusWords(status)
	}
	switch reason {
	case "":
		return ""
	case "forbidden-address":
		return "the hub may not connect to this address"
	case "crowded":
		return "too many verifications go to this network"
	case "unreachable":
		return "no connection: no such name, refused, or cut off"
	case "timeout":
		return "no answer in time"
	case "tls":
		return "TLS failed: a certificate or protocol is not accepted"
	case "wrong-challenge":
		return "the answer was not the challenge"
	case "cancelled":
		return "cut off by the hub itself"
	case "protocol":
		return "the answer was no HTTP response"
	case "bad-url":
		return "the address cannot be used"
	case "unreadable":
		return "this node cannot read the message"
	case "proxy":
		return "the proxy cannot be reached, or refuses"
	case "credentials":
		return "what the callback demands cannot be obtained"
	case "bad-secret":
		return "this node cannot open the subscription's secret"
	case "policy":
		return "the topic's policy cannot be carried out"
	case hub.FailedNotOwner:
		return "the subscription belongs to another principal"
	case hub.FailedUnknownTopic:
		return "the topic is not registered"
	case hub.FailedGroup:
		return "the consumer group has another mode, window or key"
	case hub.FailedQuota:
		return "a quota of whoever asked is reached"
	case hub.FailedRetired:
		return "the topic was retired"
	}
	return reason
}

// statusWords says in words what a callback has answered.
func statusWords(status int) string {
	text := http.StatusText(status)
	if text == "" {
		return fmt.Sprintf("answered %d", status)
	}
	return fmt.Sprintf("answered %d %s", status, text)
}

// remedy says what may help against a failure, empty if there is nothing to say.
func remedy(reason string, status int) string {
	switch {
	case status == http.StatusNotFound:
		return "Check the path of the callback."
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "The callback wants credentials: set its headers below, or let it accept the hub's signature."
	case status == http.StatusTooManyRequests:
		return "It takes fewer messages than are sent: its subscriber can ask for a rate (hub.delivery_rate)."
	case status >= 500:
		return "The endpoint itself has failed; its own log says why."
	case status >= 300 && status < 400:
		return "Redirects are not followed; its subscriber should subscribe with the new address."
	}
	switch reason {
	case "unreachable":
		return "Check that the name resolves and that something listens there."
	case "timeout":
		return "It should acknowledge first and work afterwards: delivery.timeout bounds the wait."
	case "tls":
		return "Check its certificate: name, end, and who has signed it."
	case "forbidden-address":
		return "An operator can allow the address (delivery.egress)."
	case "wrong-challenge":
		return "The callback must answer a GET with the value of hub.challenge, and nothing else."
	case "bad-secret":
		return "The node lacks a sealing key; see quorumhub keys."
	}
	return ""
}
