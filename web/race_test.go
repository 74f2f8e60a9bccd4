//go:build race

package web_test

// slowdown is what the race detector costs.
const slowdown = 8
