package spool

import (
	"fmt"
	"sync/atomic"
)

// account counts the bytes of all mail files against Options.MaxBytes. It is
// exact: bytes are taken before they are written, and given back when the file is
// off the disk and not before. What amavisd unpacks beside it is not counted.
type account struct {
	limit int64 // 0 for none
	held  atomic.Int64
}

// take counts n bytes more. Beyond the limit it counts nothing and fails.
func (a *account) take(n int64) error {
	for {
		held := a.held.Load()
		if a.limit > 0 && n > a.limit-held {
			return fmt.Errorf("%w: the mail files hold %d bytes of at most %d", ErrLimit, held, a.limit)
		}
		if a.held.CompareAndSwap(held, held+n) {
			return nil
		}
	}
}

// full fails if not even one byte could be taken.
func (a *account) full() error {
	err := a.take(1)
	if err == nil {
		a.give(1)
	}
	return err
}

// give takes n bytes off again.
func (a *account) give(n int64) { a.held.Add(-n) }
