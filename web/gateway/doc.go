// Package gateway serves the REST services that a registry lists: it finds a request's service and version, authenticates and
// authorizes the caller, validates the request, passes it on, and gives the caller the answer in the format it asks for.
//
// What happens to a request is a list of stages in one visible order, see stages. The package knows neither echo nor the rooms of
// the hub: who calls, what they may do, where messages go and how bodies are counted are ports that whoever mounts the Gateway
// provides.
package gateway
