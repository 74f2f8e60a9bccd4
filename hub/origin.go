package hub

import (
	"time"

	"quorumhub/hub/hubpb"
)

const (
	// originWindow is how many of an origin's last batches are remembered. It must exceed the number of batches an
	// origin may have in flight (raftlog: 16).
	originWindow = 64
	// originIdle is how long an idle origin is remembered, in the log's time.
	originIdle = 24 * time.Hour
)

// origin remembers the results of the last batches of one boot of one node, so that a batch proposed again after an
// ambiguous error gets its result instead of being applied twice.
type origin struct {
	seen    int64
	highest uint64
	batches []BatchResult // oldest first, at most originWindow
}

func (s *State) applyBatch(b *hubpb.Batch, fx *Effects) BatchResult {
	o := s.origins[b.Origin]
	if o == nil {
		s.forgetIdleOrigins()
		o = &origin{}
		s.origins[b.Origin] = o
	}
	o.seen = s.meta.Now
	s.touchName(TableOrigin, b.Origin)
	for i := range o.batches {
		if o.batches[i].Seq == b.Seq {
			return o.batches[i]
		}
	}
	res := BatchResult{Seq: b.Seq, Proposals: make([][]Result, len(b.Proposals))}
	if b.Seq+originWindow <= o.highest {
		for i, p := range b.Proposals {
			res.Proposals[i] = make([]Result, len(p.Events))
			for j := range p.Events {
				res.Proposals[i][j].Outcome = OutcomeForgotten
			}
		}
		return res
	}
	for i, p := range b.Proposals {
		results := make([]Result, len(p.Events))
		for j, e := range p.Events {
			results[j] = s.applyEvent(e, fx)
		}
		res.Proposals[i] = results
	}
	o.highest = max(o.highest, b.Seq)
	if len(o.batches) == originWindow {
		copy(o.batches, o.batches[1:])
		o.batches = o.batches[:originWindow-1]
	}
	o.batches = append(o.batches, res)
	return res
}

func (s *State) forgetIdleOrigins() {
	for name, o := range s.origins {
		if s.meta.Now-o.seen > int64(originIdle) {
			delete(s.origins, name)
			s.touchName(TableOrigin, name)
		}
	}
}

func (o *origin) row(name string) *hubpb.OriginRow {
	r := &hubpb.OriginRow{Origin: name, Seen: o.seen}
	for _, b := range o.batches {
		br := &hubpb.BatchResult{Seq: b.Seq}
		for _, p := range b.Proposals {
			pr := &hubpb.ProposalResult{}
			for _, res := range p {
				pr.Events = append(pr.Events, res.pb())
			}
			br.Proposals = append(br.Proposals, pr)
		}
		r.Batches = append(r.Batches, br)
	}
	return r
}

func originFromRow(r *hubpb.OriginRow) *origin {
	o := &origin{seen: r.Seen}
	for _, b := range r.Batches {
		br := BatchResult{Seq: b.Seq}
		for _, p := range b.Proposals {
			var results []Result
			for _, e := range p.Events {
				results = append(results, resultFromPB(e))
			}
			br.Proposals = append(br.Proposals, results)
		}
		o.batches = append(o.batches, br)
		o.highest = max(o.highest, b.Seq)
	}
	return o
}
