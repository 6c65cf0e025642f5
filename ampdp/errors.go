package ampdp

import (
	"errors"
	"fmt"
)

// What can be wrong with a reply.
var (
	// ErrNoReply: the input ended before the first byte of a reply.
	ErrNoReply = errors.New("the connection ended without a reply")

	// ErrTruncated: the input ended before the empty line that ends a reply.
	ErrTruncated = errors.New("the reply breaks off")

	// ErrMalformed: the reply is not one of AM.PDP.
	ErrMalformed = errors.New("malformed reply")

	// ErrTooLarge: the reply exceeds one of the Limits.
	ErrTooLarge = errors.New("the reply is too large")

	// ErrNoRoom: the reply does not fit beside the others into Client.Room.
	ErrNoRoom = errors.New("no room for the reply beside the others")
)

// Cause says what went wrong with a request, as far as a caller can act on it. The
// zero value is none.
type Cause int

// The causes of an Error.
const (
	// CauseUnavailable: amavisd could not be reached, be it for want of time, or
	// reset or closed the connection before the first byte of a reply. Its children
	// end after some requests and it restarts now and then: trying again is sensible.
	CauseUnavailable Cause = iota + 1

	// CauseBusy: the backlog of the local socket is full (EAGAIN from connect):
	// amavisd is there, waiting helps.
	CauseBusy

	// CauseTimeout: Client.Timeout or the deadline of the context passed between
	// the end of the connect and that of the reply.
	CauseTimeout

	// CauseMalformed: the reply is malformed, too large, or breaks off. What there
	// was of it must not be acted upon.
	CauseMalformed

	// CauseCanceled: the context was canceled.
	CauseCanceled

	// CauseRequest: the request cannot be encoded; amavisd was not asked.
	CauseRequest

	// CauseNoRoom: other replies leave no room for this one in Client.Room. It is
	// our side that lacks something, which tells nothing about this scanner.
	CauseNoRoom
)

// String returns the cause as one lower-case word.
func (c Cause) String() string {
	switch c {
	case CauseUnavailable:
		return "unavailable"
	case CauseBusy:
		return "busy"
	case CauseTimeout:
		return "timeout"
	case CauseMalformed:
		return "malformed"
	case CauseCanceled:
		return "canceled"
	case CauseRequest:
		return "request"
	case CauseNoRoom:
		return "room"
	}
	return "none"
}

// Error is what Client.Do returns on every failure.
type Error struct {
	Cause Cause

	// Address is the scanner's, as network:address.
	Address string

	// Refused: no connection came about, because nobody listens (ECONNREFUSED),
	// the socket is missing (ENOENT), may not be used (EACCES), or the host cannot
	// be reached in time. It goes with CauseUnavailable only. False if amavisd took
	// the connection and dropped it, and if it was our side that had no means left or
	// no time (the deadline of the context).
	Refused bool

	// NoMeans: it was our side that had no means left for a connection (file
	// descriptors, ports, memory), which tells nothing about this scanner. It goes with
	// CauseUnavailable only, and never with Refused.
	NoMeans bool

	// RequestSent: the whole request was written, so amavisd may have acted on it.
	// With CareOfServer it must then not be sent again.
	RequestSent bool

	// Err is what happened; errors.Is finds errno values, the context's cause, and
	// the errors of this package in it.
	Err error
}

// Error returns one line without line ends; what the peer said is quoted in it.
func (e *Error) Error() string {
	return fmt.Sprintf("amavisd at %s: %s: %v", e.Address, e.Cause, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
