package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// figuresBody is the answer of GET /v1/figures.
type figuresBody struct {
	*figures.Picture
	Leader   string          `json:"leader"`
	Concerns []view.Concern  `json:"concerns"`
	Counts   figuresCounts   `json:"counts"`
	Series   []figures.Point `json:"series"` // in place of the picture's
	Step     float64         `json:"step_seconds"`
}

type figuresCounts struct {
	Topics        int `json:"topics"`
	Subscriptions int `json:"subscriptions"`
	Requests      int `json:"requests"`
	DeadLetters   int `json:"dead_letters"`
}

// getFigures shows how the cluster is doing and how it did in the last minutes, of which minutes says how many (0 to 60).
func (s *Server) getFigures(w http.ResponseWriter, r *http.Request) {
	minutes := 60
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "minutes")
	}
	if text := values.Get("minutes"); err == nil && text != "" {
		if minutes, err = strconv.Atoi(text); err != nil || minutes < 0 || minutes > 60 {
			err = hub.ParamErrorf("minutes", "is %s; expected a number from 0 to 60", problem.Quote(text))
		}
	}
	if err == nil && s.Figures == nil {
		err = hub.Errorf(hub.CodeUnavailable, "this node has no figures")
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h := s.health(r.Context())
	c := h.Counts
	n := min(len(h.Picture.Series), minutes*int(time.Minute/figures.Step))
	writeJSON(w, http.StatusOK, figuresBody{Picture: h.Picture, Leader: h.Leader, Concerns: append([]view.Concern{}, h.Concerns()...),
		Counts: figuresCounts{c.Topics, c.Subscriptions, c.Requests, c.DeadLetters},
		Series: h.Picture.Series[len(h.Picture.Series)-n:], Step: figures.Step.Seconds()})
}

// health collects what tells how the cluster is doing.
func (s *Server) health(ctx context.Context) *view.Health {
	h := &view.Health{Now: s.Clock.Now(), Leader: s.Node.LeaderID(), Nodes: s.Node.Nodes()}
	if s.Figures != nil {
		h.Picture = s.Figures.Picture(ctx)
	}
	if s.Gateway != nil {
		h.Gateway = s.Gateway.Serving().Errors
	}
	s.State.View(func(st *hub.State) {
		h.Counts = st.Counts()
		h.KeysEnding, h.KeysEnded = st.KeyNotices()
	})
	return h
}
