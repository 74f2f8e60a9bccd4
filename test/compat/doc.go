// Package compat replays what clients of the Ballerina, WSO2 and MOSIP hubs send, and compares the hub's
// answers and requests with those of the original hubs, byte for byte where clients depend on them. It also
// checks tokens of real OpenID providers, the import of other hubs' subscriptions and the sample
// configurations, and upgrades a running cluster from the program of an earlier commit.
//
// The tests run real hub processes (see hubtest) and take about a minute; single ones take some seconds:
//
//	go test ./test/compat -run TestGoldenWire
//
// The package imports test/chaos for its clusters and test/hubtest, and nothing of the product.
package compat
