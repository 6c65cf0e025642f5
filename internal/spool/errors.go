package spool

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What the methods of a Spool, Draft or Message return when they are used after
// their time.
var (
	ErrClosed  = errors.New("the spool is closed")
	ErrSealed  = errors.New("the mail file is sealed")
	ErrRemoved = errors.New("the spool directory has been removed")
)

// Errors in the course of one message.
var (
	// ErrHeaderClosed says that a header field came behind the empty line that
	// ends the header.
	ErrHeaderClosed = errors.New("header field after the end of the header")

	// ErrTampered says that the mail file is not what was written: somebody else
	// removed, replaced or changed it.
	ErrTampered = errors.New("the mail file was removed or changed by somebody else")

	// ErrLimit says that Options.MaxBytes or Options.MinFree leave no room for the
	// message. The log, not each error, tells the administrator of that.
	ErrLimit = errors.New("a limit of the spool is reached")
)

// IsNoSpace reports whether err says that the file system is full, a quota is used
// up, or a limit of the spool is reached.
func IsNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, ErrLimit)
}

// Kind says what sort of mishap kept a spool from opening, so that the caller can
// choose an exit code of sysexits.h. The zero value is none.
type Kind int

// The kinds, each with the exit code that suits it.
const (
	KindConfig       Kind = iota + 1 // the work directory is unsuitable: EX_CONFIG, 78
	KindPermission                   // we may not: EX_NOPERM, 77
	KindCannotCreate                 // something cannot be made: EX_CANTCREAT, 73
	KindOS                           // the system fails us: EX_OSERR, 71
)

func (k Kind) String() string {
	switch k {
	case KindConfig:
		return "unsuitable work directory"
	case KindPermission:
		return "permission denied"
	case KindCannotCreate:
		return "cannot create"
	case KindOS:
		return "operating system error"
	}
	return "none"
}

// SetupError says why a spool cannot be opened. Its text is one line: what is
// wrong, with what, and what to do.
type SetupError struct {
	Kind   Kind
	Path   string // the directory or file that it is about, as configured
	What   string // what is wrong with it
	Advice string // what to do about it
	Err    error  // the system's error; nil when the fault is not the system's
}

func (e *SetupError) Error() string {
	text := fmt.Sprintf("work directory: %s %s", quotePath(e.Path), e.What)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + "; " + e.Advice
}

// Unwrap returns the system's error.
func (e *SetupError) Unwrap() error { return e.Err }

// setupKind sorts a system error: what the administrator's permissions forbid,
// what the file system cannot give, and all else.
func setupKind(err error) Kind {
	for _, denied := range []error{unix.EACCES, unix.EPERM} {
		if errors.Is(err, denied) {
			return KindPermission
		}
	}
	for _, lacking := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EMLINK, unix.ENOENT, unix.EEXIST, unix.ENAMETOOLONG} {
		if errors.Is(err, lacking) {
			return KindCannotCreate
		}
	}
	return KindOS
}
