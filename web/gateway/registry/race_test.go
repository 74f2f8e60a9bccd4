//go:build race

package registry_test

// slowdown is what the race detector costs.
const slowdown = 8
