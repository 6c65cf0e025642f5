package daemon

import (
	"errors"
	"fmt"
)

// Exit codes of sysexits(3) that this program uses.
const (
	ExitOK            = 0
	ExitUsage         = 64 // EX_USAGE: the command line is wrong
	ExitUnavailable   = 69 // EX_UNAVAILABLE: the socket or pid file belongs to a living instance
	ExitSoftware      = 70 // EX_SOFTWARE: our own fault, or a death without a word
	ExitOS            = 71 // EX_OSERR: the system refused something it should not refuse
	ExitCannotCreate  = 73 // EX_CANTCREAT: a file, directory or socket cannot be made
	ExitNoPermission  = 77 // EX_NOPERM: a permission is missing
	ExitConfiguration = 78 // EX_CONFIG: the setting is well-formed, but wrong on this host
)

// Error is an error with the exit code of a process that ends because of it.
type Error struct {
	Code int // one of the Exit constants
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code for an error: 0 for nil, the code of the first
// [Error] in its chain, [ExitSoftware] for any other error.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var coded *Error
	if errors.As(err, &coded) {
		return coded.Code
	}
	return ExitSoftware
}

// failf makes an Error; its format may hold one %w.
func failf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}
