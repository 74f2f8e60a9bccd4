// Package topics applies the policies that a registry has on topics: who may publish and subscribe beyond the access rules, what
// content a topic takes, how often, and what is sent to callbacks.
package topics
