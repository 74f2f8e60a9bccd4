package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

// maxImportBytes is the largest body of an import.
const maxImportBytes = 4 << 20

// importBody lists what to import. It contains secrets in the clear; responses never do.
type importBody struct {
	Topics        []string             `json:"topics"`
	Subscriptions []importSubscription `json:"subscriptions"`
	Verify        bool                 `json:"verify"`
	DryRun        bool                 `json:"dry_run"`
}

type importSubscription struct {
	Topic         string            `json:"topic"`
	Callback      string            `json:"callback"`
	Secret        string            `json:"secret"`
	LeaseSeconds  string            `json:"lease_seconds"`
	ConsumerGroup string            `json:"consumer_group"`
	Since         *time.Time        `json:"since"`
	Fields        map[string]string `json:"fields"`
}

// importItem is the outcome of one record.
type importItem struct {
	Topic      string            `json:"topic"`
	Callback   string            `json:"callback,omitempty"`
	Outcome    hub.ImportOutcome `json:"outcome"`
	ID         string            `json:"id,omitempty"`
	FreshLease bool              `json:"fresh_lease,omitempty"`
	Param      string            `json:"param,omitempty"`
	Reason     string            `json:"reason,omitempty"`
}

// postImport imports topics and subscriptions from another hub. It may be repeated: existing ones stay unchanged.
func (s *Server) postImport(w http.ResponseWriter, r *http.Request) {
	in, err := s.readImport(w, r)
	var done []hub.Imported
	if err == nil {
		auth.Note(r.Context(), "topics", strconv.Itoa(len(in.Topics)))
		auth.Note(r.Context(), "subscriptions", strconv.Itoa(len(in.Subscriptions)))
		done, err = s.Service.Import(r.Context(), in)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := struct {
		Topics        []importItem `json:"topics"`
		Subscriptions []importItem `json:"subscriptions"`
		DryRun        bool         `json:"dry_run"`
	}{[]importItem{}, []importItem{}, in.DryRun}
	for i, d := range done {
		item := importItem{Outcome: d.Outcome, FreshLease: d.FreshLease, Param: d.Param, Reason: d.Reason}
		if d.ID != 0 {
			item.ID = d.ID.String()
		}
		if i < len(in.Topics) {
			item.Topic, item.ID = in.Topics[i], ""
			out.Topics = append(out.Topics, item)
			continue
		}
		sub := &in.Subscriptions[i-len(in.Topics)]
		item.Topic, item.Callback = sub.Topic, sub.Callback
		out.Subscriptions = append(out.Subscriptions, item)
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) readImport(w http.ResponseWriter, r *http.Request) (in hub.Import, err error) {
	const expected = `expected JSON such as {"topics": ["a"], "subscriptions": [{"topic": "a", "callback": "https://example.org/cb", "secret": "s"}]}`
	var body importBody
	if err := s.readJSON(w, r, maxImportBytes, &body, expected); err != nil {
		return in, err
	}
	if len(body.Topics)+len(body.Subscriptions) == 0 {
		return in, hub.ParamErrorf("body", "has neither topics nor subscriptions; %s", expected)
	}
	in = hub.Import{Topics: body.Topics, Verify: body.Verify, DryRun: body.DryRun}
	for i := range body.Subscriptions {
		b := &body.Subscriptions[i]
		sub := hub.ImportedSubscription{Topic: b.Topic, Callback: b.Callback, Secret: b.Secret, LeaseSeconds: b.LeaseSeconds, ConsumerGroup: b.ConsumerGroup}
		if b.Since != nil {
			sub.Since = *b.Since
		}
		for name, value := range b.Fields {
			sub.Extra = append(sub.Extra, hub.ExtraField{Name: name, Value: value})
		}
		slices.SortFunc(sub.Extra, func(a, b hub.ExtraField) int { return cmp.Compare(a.Name, b.Name) })
		in.Subscriptions = append(in.Subscriptions, sub)
	}
	return in, nil
}
