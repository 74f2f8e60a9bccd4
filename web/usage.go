package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// usageItem is what a principal has, and how much of it the quotas allow. A limit of 0 is none.
type usageItem struct {
	Principal          string      `json:"principal"`
	Topics             usageOf     `json:"topics"`
	Subscriptions      usageOf     `json:"subscriptions"`
	PendingRequests    usageOf     `json:"pending_requests"`
	IdempotencyKeys    usageOf     `json:"idempotency_keys"`
	APIKeys            usageOf     `json:"api_keys"`
	Nonces             usageOf     `json:"nonces_per_minute"`
	FailedRequests     int         `json:"failed_requests"`
	StoredBytes        usageOf     `json:"stored_bytes"`
	DeadLetters        int         `json:"dead_letters"`
	DeadLetterBytes    usageOf     `json:"dead_letter_bytes"`
	DeadLettersDropped uint64      `json:"dead_letters_dropped"` // by that quota, since the principal last owned nothing
	Node               nodeUsageOf `json:"node"`
}

type usageOf struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

func countOf(used, limit int) usageOf { return usageOf{int64(used), int64(limit)} }

// nodeUsageOf is what the principal has at this node only.
type nodeUsageOf struct {
	Streams usageOf `json:"streams"`
}

// getUsage lists what principals have and may have, in order of name: an operator's list has all, or the one it asks for, and other
// principals' themselves.
func (s *Server) getUsage(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "principal", "limit", "cursor")
	}
	limit := defaultLimit
	if err == nil {
		limit, err = limitOf(values)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	own, all := s.onlyOwner(r.Context())
	want := values.Get("principal")
	var names []string
	switch {
	case want != "" && !all && !auth.CallerOf(r.Context()).Principal.Is(want):
		s.fail(w, r, &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Param: "principal", Detail: "is another principal; its usage is for operators (admin.view)"})
		return
	case want != "" && !all:
		names = []string{own}
	case want != "":
		names = []string{want}
	case all:
		s.State.View(func(st *hub.State) { names = st.Principals() })
	default:
		names = []string{own}
	}
	if after := values.Get("cursor"); after != "" {
		at, found := slices.BinarySearch(names, after)
		if found {
			at++
		}
		names = names[at:]
	}
	out := page[usageItem]{Items: []usageItem{}}
	if len(names) > limit {
		names = names[:limit]
		out.Next = names[limit-1]
	}
	for _, name := range names {
		out.Items = append(out.Items, s.usage(r, name))
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) usage(r *http.Request, name string) usageItem {
	var u hub.Usage
	s.State.View(func(st *hub.State) { u = st.Usage(name) })
	q := auth.Quotas{}
	if s.Guard != nil {
		q = s.Guard.Quotas(r.Context(), name)
	}
	return usageItem{Principal: name, Topics: countOf(u.Topics, q.Topics), Subscriptions: countOf(u.Subscriptions, q.Subscriptions),
		PendingRequests: countOf(u.PendingRequests, q.PendingRequests), IdempotencyKeys: countOf(u.IdempotencyKeys, q.IdempotencyKeys),
		APIKeys: countOf(u.APIKeys, q.APIKeys), Nonces: countOf(u.NoncesThisMinute, q.NoncesPerMinute), FailedRequests: u.FailedRequests,
		StoredBytes: usageOf{int64(u.StoredBytes), q.StoredBytes}, DeadLetters: u.DeadLetters,
		DeadLetterBytes: usageOf{int64(u.DeadLetterBytes), q.DeadLetterBytes}, DeadLettersDropped: u.DeadLettersDropped,
		Node: nodeUsageOf{countOf(s.streams.principals.count(name), q.Streams)}}
}

// reassignSubscriptions gives subscriptions another owner: {"subscriptions": ["s-17"], "to": "issuer:idp/123"}, or all of one:
// {"from": "key/0123456789ab", "to": "issuer:idp/123"}. An empty to is nobody, so the next one who renews becomes the owner.
func (s *Server) reassignSubscriptions(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"from": "key/0123456789ab", "to": "issuer:idp/123"} or {"subscriptions": ["s-17"], "to": "issuer:idp/123"}`
	var in struct {
		Subscriptions []string `json:"subscriptions"`
		From          string   `json:"from"`
		To            *string  `json:"to"`
	}
	err := s.readJSON(w, r, maxJSONBytes, &in, expected)
	if err == nil && in.To == nil {
		err = hub.ParamErrorf("to", "is missing; %s", expected)
	}
	var ids []hub.SubscriptionID
	for _, text := range in.Subscriptions {
		kind, n, ok := parseID(text)
		if err == nil && (!ok || kind != 's') {
			err = noSubscription(text)
		}
		ids = append(ids, hub.SubscriptionID(n))
	}
	n := 0
	if err == nil {
		auth.Note(r.Context(), "from", in.From)
		auth.Note(r.Context(), "to", *in.To)
		auth.Note(r.Context(), "subscriptions", strings.Join(in.Subscriptions, " "))
		n, err = s.Service.Reassign(r.Context(), hub.Reassignment{Subscriptions: ids, From: in.From, To: *in.To, By: principalName(r)})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Reassigned int `json:"reassigned"`
	}{n})
}

// endOwner pauses the subscriptions of a principal whose credential has ended outside the hub, such as a certificate that was revoked or
// a user who left, or ends them: {"owner": "cert/alice.example.org", "end_subscriptions": true}.
func (s *Server) endOwner(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"owner": "cert/alice.example.org", "end_subscriptions": false}`
	var in struct {
		Owner string `json:"owner"`
		End   bool   `json:"end_subscriptions"`
	}
	err := s.readJSON(w, r, maxShortJSONBytes, &in, expected)
	out := struct {
		Owner  string `json:"owner"`
		Paused int    `json:"subscriptions_paused"`
		Ended  int    `json:"subscriptions_ended"`
		// Sessions are those of the principal, under all its IDs.
		Sessions int `json:"sessions_ended"`
	}{Owner: in.Owner}
	if err == nil {
		auth.Note(r.Context(), "owner", in.Owner)
		out.Sessions, err = s.endSessionsOf(r, in.Owner)
	}
	if err == nil {
		if in.End {
			out.Ended, err = s.Service.EndSubscriptionsOf(r.Context(), in.Owner, principalName(r))
		} else {
			out.Paused, err = s.Service.EndOwner(r.Context(), in.Owner, hub.PauseOwnerEnded, nil, principalName(r))
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	auth.Note(r.Context(), "subscriptions", strconv.Itoa(out.Paused+out.Ended))
	writeJSON(w, http.StatusOK, out)
}
