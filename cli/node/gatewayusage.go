package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"quorumhub/web/view"
)

// usageTimeout bounds how long one node may take to tell who uses its gateway.
const usageTimeout = 3 * time.Second

// gatewayUsage adds up who calls which version of the gateway's services, over all nodes.
type gatewayUsage struct {
	id    string
	nodes func() []string // all members
	ask   func(ctx context.Context, node string, question []byte) ([]byte, error)
	local func() []view.GatewayUse
}

// gatewayCall is a question about the gateway to another node.
type gatewayCall struct {
	Gateway string `json:"gateway"` // usage
}

// all asks every node in parallel.
func (u *gatewayUsage) all(ctx context.Context) view.GatewayUsage {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	nodes := u.nodes()
	slices.Sort(nodes)
	found, failed := make([][]view.GatewayUse, len(nodes)), make([]bool, len(nodes))
	var wg sync.WaitGroup
	for i, id := range nodes {
		wg.Go(func() {
			var err error
			if found[i], err = u.of(ctx, id); err != nil {
				failed[i] = true
			}
		})
	}
	wg.Wait()
	var out view.GatewayUsage
	for i, id := range nodes {
		if failed[i] {
			out.Missing = append(out.Missing, id)
		} else {
			out.Nodes = append(out.Nodes, id)
		}
	}
	out.Items = sumUsage(slices.Concat(found...))
	return out
}

func (u *gatewayUsage) of(ctx context.Context, node string) ([]view.GatewayUse, error) {
	if node == u.id {
		return u.local(), nil
	}
	question, err := json.Marshal(gatewayCall{"usage"})
	if err != nil {
		return nil, err
	}
	answer, err := u.ask(ctx, node, question)
	if err != nil {
		return nil, err
	}
	var out []view.GatewayUse
	err = json.Unmarshal(answer, &out)
	return out, err
}

// answer answers another node's question.
func (u *gatewayUsage) answer(question []byte) ([]byte, error) {
	var q gatewayCall
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	if q.Gateway != "usage" {
		return nil, fmt.Errorf("unknown question %q; the asking node runs a newer version", q.Gateway)
	}
	return json.Marshal(append([]view.GatewayUse{}, u.local()...))
}

// sumUsage adds up the uses of one version by one consumer, most used first.
func sumUsage(all []view.GatewayUse) (out []view.GatewayUse) {
	type key struct{ consumer, service, version string }
	at := map[key]int{}
	for _, use := range all {
		k := key{use.Consumer, use.Service, use.Version}
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, use)
			continue
		}
		sum := &out[i]
		sum.Requests += use.Requests
		sum.Failures += use.Failures
		if use.LastAt.After(sum.LastAt) {
			sum.LastAt = use.LastAt
		}
	}
	slices.SortFunc(out, func(a, b view.GatewayUse) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Consumer, b.Consumer))
	})
	return out
}

// gatewayView shows the gateway to the web room. It implements view.Gateway.
type gatewayView struct {
	*gatewaySource
	usage *gatewayUsage
}

// Usage implements view.Gateway.
func (v *gatewayView) Usage(ctx context.Context) view.GatewayUsage { return v.usage.all(ctx) }
