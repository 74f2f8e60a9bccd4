package hub

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"quorumhub/hub/hubpb"
)

// maxPingTopics bounds the number of topics in one ping.
const maxPingTopics = 100

// PingedTopic is one topic of a thin ping.
type PingedTopic struct {
	Param string // the parameter that names it
	URL   string // as sent
	Name  string
	Err   error // why it is not announced; nil: it is
}

// Ping accepts a thin ping from its form body: the named topics have changed. When it returns no error, the pings are
// durable, and the topics that have subscribers will be fetched, except for those it returns, each with the reason:
// unknown, or refused by a rule or a policy. If none is accepted, or the form is malformed, there is an error. host is the one by which the client has reached the hub.
func (s *Service) Ping(ctx context.Context, host string, form url.Values) (refused []PingedTopic, err error) {
	topics, err := ParsePing(form, s.namer, s.known)
	if err != nil {
		return nil, err
	}
	var events []*hubpb.Event
	var proposed []*PingedTopic
	for i := range topics {
		t := &topics[i]
		if t.Err = s.checkPing(ctx, host, t); t.Err != nil || s.namer.Hosted(t.Name) {
			continue // the content of a hosted topic is published to this hub; there is nothing to fetch
		}
		proposed = append(proposed, t)
		events = append(events, &hubpb.Event{Kind: &hubpb.Event_TopicPinged{
			TopicPinged: &hubpb.TopicPinged{Topic: t.Name, AutoRegister: s.policy.AutoRegister, Caller: s.pinger(ctx, t.Name)}}})
	}
	if len(events) > 0 {
		results, err := s.proposer.Propose(ctx, events...)
		if err != nil {
			return nil, err
		}
		for i, r := range results {
			proposed[i].Err = r.Err(proposed[i].Name)
		}
	}
	for _, t := range topics {
		if t.Err != nil {
			refused = append(refused, t)
		}
	}
	if len(refused) == len(topics) {
		return nil, refusedAll(refused)
	}
	return refused, nil
}

// refusedAll returns the reason for refusing a ping of which nothing is accepted: the first topic's.
func refusedAll(refused []PingedTopic) error {
	e, ok := errors.AsType[*Error](refused[0].Err)
	if !ok || len(refused) == 1 {
		return refused[0].Err
	}
	all := *e
	all.Message += fmt.Sprintf("; nor is any of the other %d topics accepted", len(refused)-1)
	return &all
}

// checkPing returns an error if the caller may not announce a topic, or if the hub cannot fetch it.
func (s *Service) checkPing(ctx context.Context, host string, t *PingedTopic) error {
	if err := s.namer.CheckHost(t.Param, t.URL, host); err != nil {
		return err
	}
	if err := s.authorize(ctx, ActionPublish, t.Name); err != nil {
		return err
	}
	if !s.policy.AutoRegister && !s.known(t.Name) {
		return Result{Outcome: OutcomeNoTopic}.Err(t.Name)
	}
	if s.policy.CheckTopic == nil || s.namer.Hosted(t.Name) {
		return nil
	}
	u, err := url.Parse(t.Name)
	if err != nil {
		return ParamErrorf(t.Param, "%s is not a URL (%v)", quoteURL(t.URL), urlProblem(t.URL, err))
	}
	if err := s.policy.CheckTopic(u); err != nil {
		return &Error{Code: CodeForbidden, Param: t.Param, Message: err.Error()}
	}
	return nil
}

// ParsePing parses the topics of a thin ping from its form body: hub.url, hub.url[] and hub.topic, each of which may
// be repeated, or list several URLs with commas between them (PubSubHubbub 0.3 and common practice of publishers). A
// value that is as a whole a topic known to the hub is no list. Duplicates are dropped. A malformed URL is an error, an
// *Error that names the parameter.
func ParsePing(form url.Values, namer *TopicNamer, known func(name string) bool) ([]PingedTopic, error) {
	var topics []PingedTopic
	for _, param := range []string{"hub.url", "hub.url[]", "hub.topic"} {
		for _, value := range form[param] {
			list := splitURLs(value)
			if len(list) > 1 {
				if name, err := namer.Name(param, value); err == nil && known(name) {
					list = []string{value}
				}
			}
			for _, raw := range list {
				name, err := namer.Name(param, raw)
				if err != nil {
					return nil, err
				}
				if slices.ContainsFunc(topics, func(t PingedTopic) bool { return t.Name == name }) {
					continue
				}
				if len(topics) == maxPingTopics {
					return nil, ParamErrorf(param, "names more than %d topics; send them in several requests", maxPingTopics)
				}
				topics = append(topics, PingedTopic{Param: param, URL: raw, Name: name})
			}
		}
	}
	if len(topics) == 0 {
		return nil, ParamErrorf("hub.url", "is missing or empty; expected the URL of the changed topic")
	}
	return topics, nil
}

// splitURLs splits a list of URLs with commas between them. A comma that is not followed by a URL is part of one.
func splitURLs(value string) (list []string) {
	begin := 0
	for i := range len(value) {
		if value[i] != ',' {
			continue
		}
		if rest := strings.TrimLeft(value[i+1:], " "); startsURL(rest) && startsURL(value[begin:i]) {
			list = append(list, strings.TrimRight(value[begin:i], " "))
			begin = len(value) - len(rest)
		}
	}
	return append(list, value[begin:])
}

// startsURL is looksLikeURL for the beginning of a text that may be long.
func startsURL(s string) bool { return looksLikeURL(s[:min(len(s), len("https://"))]) }
