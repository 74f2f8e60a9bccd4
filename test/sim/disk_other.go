//go:build !linux

package sim

import "errors"

func breakDisk(string) error { return errors.ErrUnsupported }
