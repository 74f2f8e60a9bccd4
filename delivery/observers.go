package delivery

import "quorumhub/hub"

// Observers passes applied effects on to several observers, in order.
type Observers []hub.Observer

// Applied implements hub.Observer.
func (o Observers) Applied(fx *hub.Effects) {
	for _, each := range o {
		each.Applied(fx)
	}
}
