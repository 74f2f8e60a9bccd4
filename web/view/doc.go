// Package view holds what both the API and the console show of a node and its cluster, and the interfaces they read it through.
package view
