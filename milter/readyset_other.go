//go:build !linux

package milter

import (
	"errors"
	"syscall"
)

// readySet is for Linux alone: elsewhere connections do not doze.
type readySet struct{}

func newReadySet() (*readySet, error)                    { return nil, errors.ErrUnsupported }
func (s *readySet) add(_ syscall.RawConn, _ uint64) bool { return false }
func (s *readySet) remove(_ syscall.RawConn)             {}
func (s *readySet) run(_ func(number uint64))            {}
func (s *readySet) close()                               {}
