package sequence

import (
	"context"

	"quorumhub/auth"
)

// Explain is Process for a first request, but nothing is begun, kept or used up: it only says in Result.Trail what each step would do. It
// goes through all steps, whatever the first ones say. Status and Err are those that Process would return; Next is nil.
func (p *Processor) Explain(ctx context.Context, r *Request) *Result {
	steps, maxAge, ok := p.steps(r.Provider)
	if !ok {
		return p.Process(ctx, r) // which says so
	}
	t := &run{p: p, r: r, res: &Result{Status: Authenticated, Provider: r.Provider}, now: p.o.Now(), dry: true, steps: steps, carried: map[int]*carried{}}
	if r.Credentials != nil {
		one := *r.Credentials
		t.credentials = one.Shared()
	}
	t.at = progress{Provider: r.Provider, MaxAge: int64(maxAge.Seconds()), Anew: r.Anew, Hint: r.Hint}
	for i := range steps {
		out := t.decide(ctx, i)
		if out.Status == Authenticated {
			if err := t.named(i, out.Principal); err != nil {
				out = auth.Failure(out.By, err)
				t.trace(i, steps[i].Of[out.By], Failed, err.Error())
			}
		}
		if out.Status != Authenticated && t.res.Status == Authenticated {
			t.res.Status, t.res.Err = out.Status, out.Err
		}
	}
	if t.res.Status == Authenticated {
		t.res.Principal = t.who
	}
	return t.res
}
