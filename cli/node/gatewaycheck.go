package node

import (
	"errors"
	"net/url"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
)

// gatewayChecker checks a registry against this hub before it is applied. It implements hub.GatewayChecker and registry.Environment.
type gatewayChecker struct {
	guard        *auth.Guard // nil: the hub asks for no credentials
	state        hub.StateReader
	namer        *hub.TopicNamer
	autoRegister bool
	own          func(*url.URL) bool // reports whether the hub answers at a URL's host and port
}

// CheckGateway implements hub.GatewayChecker.
func (c *gatewayChecker) CheckGateway(d *hub.GatewayDocument) []hub.GatewayMistake {
	reg, mistakes := registry.Read(registry.Document(*d), c)
	if reg != nil {
		mistakes = gateway.Check(reg)
	}
	return hubMistakes(mistakes)
}

func hubMistakes(mistakes []registry.Mistake) (out []hub.GatewayMistake) {
	for _, m := range mistakes {
		out = append(out, hub.GatewayMistake{Line: m.Line, Column: m.Column, Path: m.Path, Detail: m.Detail})
	}
	return out
}

// Authenticator implements registry.Environment.
func (c *gatewayChecker) Authenticator(name string) error {
	if c.guard == nil {
		return errors.New("this hub asks for no credentials (auth.mode); expected none or default")
	}
	_, err := c.guard.Demand(name, nil)
	return err
}

// Step implements registry.Environment.
func (c *gatewayChecker) Step(s *registry.Step) error {
	if c.guard == nil {
		return nil // Authenticator has said so
	}
	return c.guard.CheckStep(auth.Step{Strategy: s.Strategy, Of: s.Of, Require: s.Require, Min: s.Min})
}

// Operation implements registry.Environment.
func (c *gatewayChecker) Operation(name string) error { return web.CheckOperation(name) }

// Topic implements registry.Environment.
func (c *gatewayChecker) Topic(name string) error {
	if _, err := c.namer.HostedName("topic", name); err != nil {
		return err
	}
	if hub.Reserved(name) {
		return errors.New("only the hub publishes to it; expected another topic")
	}
	known := false
	c.state.View(func(s *hub.State) { _, known = s.TopicByName(name) })
	if !known && !c.autoRegister {
		return errors.New("it is not registered, and topics.auto_register is false; expected a topic of this hub (quorumhub topics register)")
	}
	return nil
}

// OwnAddress implements registry.Environment.
func (c *gatewayChecker) OwnAddress(hostport string) bool {
	return c.own != nil && c.own(&url.URL{Scheme: "http", Host: hostport})
}
