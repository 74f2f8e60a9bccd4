// Package gateway reads a registry of the gateway with the files and secrets it refers to, and compares two registries.
package gateway
