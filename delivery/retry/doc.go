// Package retry decides when and how often something is tried again: Backoff computes waits, Policy applies them to
// deliveries, and Recorder repeats proposals until they are applied.
//
// It imports hub only. The other packages of delivery share it.
package retry
