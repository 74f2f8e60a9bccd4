package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

func countOf(used, limit int) view.Used { return view.Used{Used: int64(used), Limit: int64(limit)} }

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
	items, next, err := s.usages(r.Context(), values.Get("principal"), values.Get("cursor"), limit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page[view.Usage]{Items: items, Next: next})
}

// usages returns what at most limit principals after one have, of those that the caller may see; next is the last if there are more.
// With a name it is that principal only.
func (s *Server) usages(ctx context.Context, want, after string, limit int) (items []view.Usage, next string, err error) {
	own, all := s.onlyOwner(ctx)
	var names []string
	switch {
	case want != "" && !all && !auth.CallerOf(ctx).Principal.Is(want):
		return nil, "", &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Param: "principal", Detail: "is another principal; its usage is for operators (admin.view)"}
	case want != "" && all:
		names = []string{want}
	case all:
		s.State.View(func(st *hub.State) { names = st.Principals() })
	default:
		names = []string{own}
	}
	if after != "" {
		at, found := slices.BinarySearch(names, after)
		if found {
			at++
		}
		names = names[at:]
	}
	if len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	items = []view.Usage{}
	for _, name := range names {
		items = append(items, s.usage(ctx, name))
	}
	return items, next, nil
}

func (s *Server) usage(ctx context.Context, name string) view.Usage {
	var u hub.Usage
	s.State.View(func(st *hub.State) { u = st.Usage(name) })
	q := auth.Quotas{}
	if s.Guard != nil {
		q = s.Guard.Quotas(ctx, name)
	}
	return view.Usage{Principal: name, Topics: countOf(u.Topics, q.Topics), Subscriptions: countOf(u.Subscriptions, q.Subscriptions),
		PendingRequests: countOf(u.PendingRequests, q.PendingRequests), IdempotencyKeys: countOf(u.IdempotencyKeys, q.IdempotencyKeys),
		APIKeys: countOf(u.APIKeys, q.APIKeys), Nonces: countOf(u.NoncesThisMinute, q.NoncesPerMinute), FailedRequests: u.FailedRequests,
		StoredBytes: view.Used{Used: int64(u.StoredBytes), Limit: q.StoredBytes}, DeadLetters: u.DeadLetters,
		DeadLetterBytes: view.Used{Used: int64(u.DeadLetterBytes), Limit: q.DeadLetterBytes}, DeadLettersDropped: u.DeadLettersDropped,
		Node: view.NodeUsage{Streams: countOf(s.streams.principals.count(name), q.Streams)}}
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
