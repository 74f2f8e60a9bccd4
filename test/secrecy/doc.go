// Package secrecy plants secrets of every kind in a cluster and searches everything the cluster says and
// writes for them (invariant I10). Its test runs four real nodes and takes about half a minute:
//
//	go test ./test/secrecy -run TestPlanted
package secrecy
