// Package secrecy looks for planted secrets in everything that a cluster says and writes (invariant I10).
package secrecy
