package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Explainer says what the steps of a service provider's sequence make of a request. Safe for concurrent use.
type Explainer interface {
	// Explain is sequence.Processor.Explain. It finds the session that the credentials' cookie names.
	Explain(ctx context.Context, q *sequence.Request) *sequence.Result
}

// sequenceStep is what one authenticator does in one step.
type sequenceStep struct {
	Step          int             `json:"step"`
	Strategy      string          `json:"strategy"`
	Authenticator string          `json:"authenticator"`
	Status        sequence.Status `json:"status"`
	Reason        string          `json:"reason"`
}

// sequenceExplanation says what a sequence makes of a request.
type sequenceExplanation struct {
	Provider  string          `json:"service_provider"`
	Status    sequence.Status `json:"status"`
	Reason    string          `json:"reason,omitempty"`
	Principal *principalItem  `json:"principal,omitempty"`
	Steps     []sequenceStep  `json:"steps"`
}

// explainSequence says what the sequence of a service provider makes of the credentials of this request or, with request, of those of
// another one. Nothing is begun, used up or remembered.
func (s *Server) explainSequence(w http.ResponseWriter, r *http.Request, provider, request string, browser bool) {
	out, err := s.sequenceOf(w, r, provider, request, browser)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) sequenceOf(w http.ResponseWriter, r *http.Request, provider, request string, browser bool) (*sequenceExplanation, error) {
	if s.Sequences == nil {
		return nil, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "service_provider", Detail: "this hub asks for no credentials (auth.mode)"}
	}
	x, _ := w.(*exchange)
	credentials, _ := s.credentialsOf(x, r, maxShortJSONBytes)
	if request != "" {
		other, err := requestIn(request)
		if err != nil {
			return nil, err
		}
		other.RemoteAddr = r.RemoteAddr
		body, err := io.ReadAll(other.Body) // of a text that is bounded
		if err != nil {
			return nil, hub.ParamErrorf("request", "its body does not end as its headers say")
		}
		credentials = &auth.Request{HTTP: other, Host: other.Host, Scheme: credentials.Scheme, Client: x.client, Body: func() ([]byte, error) { return bytes.Clone(body), nil }}
	}
	credentials.Afford, credentials.SetCookie = nil, nil
	res := s.Sequences.Explain(r.Context(), &sequence.Request{Provider: provider, Credentials: credentials, Interactive: browser, Client: x.client.String()})
	if errors.Is(res.Err, sequence.ErrProvider) {
		return nil, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "service_provider",
			Detail: problem.Quote(provider) + " is none of service_providers in auth.file, and no route of the gateway's (gateway:<auth>)"}
	}
	out := &sequenceExplanation{Provider: provider, Status: res.Status, Steps: []sequenceStep{}}
	if res.Err != nil {
		out.Reason = res.Err.Error()
	}
	if res.Principal != nil {
		p := itemOf(res.Principal)
		out.Principal = &p
	}
	for _, t := range res.Trail {
		out.Steps = append(out.Steps, sequenceStep(t))
	}
	return out, nil
}

// requestIn parses a request as it would be sent, or as an editor would write it.
func requestIn(text string) (*http.Request, error) {
	if !strings.Contains(text, "\r\n") {
		text = strings.ReplaceAll(text, "\n", "\r\n") // as editors write it
	}
	if !strings.Contains(text, "\r\n\r\n") {
		text = strings.TrimRight(text, "\r\n") + "\r\n\r\n"
	}
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return nil, hub.ParamErrorf("request", "is no HTTP request (%s); expected a request line, headers, an empty line and maybe a body", problem.OneLine(err.Error()))
	}
	return request, nil
}
