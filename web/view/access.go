package view

import (
	"time"

	"quorumhub/auth"
)

// AccessRule is an access rule and where it comes from.
type AccessRule struct {
	auth.Rule
	Source string     `json:"source"` // file, or api
	SetAt  *time.Time `json:"set_at,omitempty"`
	SetBy  string     `json:"set_by,omitempty"`
}

// Usage is what a principal has, and how much of it the quotas allow.
type Usage struct {
	Principal          string    `json:"principal"`
	Topics             Used      `json:"topics"`
	Subscriptions      Used      `json:"subscriptions"`
	PendingRequests    Used      `json:"pending_requests"`
	IdempotencyKeys    Used      `json:"idempotency_keys"`
	APIKeys            Used      `json:"api_keys"`
	Nonces             Used      `json:"nonces_per_minute"`
	FailedRequests     int       `json:"failed_requests"`
	StoredBytes        Used      `json:"stored_bytes"`
	DeadLetters        int       `json:"dead_letters"`
	DeadLetterBytes    Used      `json:"dead_letter_bytes"`
	DeadLettersDropped uint64    `json:"dead_letters_dropped"` // by that quota, since the principal last owned nothing
	Node               NodeUsage `json:"node"`
}

// Used is a number and its quota. A limit of 0 is none.
type Used struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

// NodeUsage is what the principal has at this node only.
type NodeUsage struct {
	Streams Used `json:"streams"`
}
