//go:build !race

package registry_test

const slowdown = 1
