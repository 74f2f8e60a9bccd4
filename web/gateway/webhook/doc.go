// Package webhook verifies that a webhook comes from its sender: the signatures of GitHub, Stripe, Slack and Standard
// Webhooks, and those of senders that can be described by a header, an algorithm and an encoding.
//
// It promises that signatures are compared in constant time, with every secret and every signature there is; that what
// decides (algorithm, headers, encoding) comes from the configuration and never from the request; and that what a Delivery
// is claimed by against replays is covered by the signature.
//
// It imports web/problem only.
package webhook
