// Package hostile attacks a real hub as a hostile client, tenant, callback or topic would, over raw TCP where
// necessary. During every attack an honest publisher publishes and an honest subscriber receives it.
// Afterwards memory, goroutines, connections and file descriptors must return to what they were.
//
// The tests run real hub processes (see hubtest) and take about a minute; single ones take some seconds:
//
//	go test ./test/hostile -run TestHostileFlood
//
// The package imports nothing of the product.
package hostile
