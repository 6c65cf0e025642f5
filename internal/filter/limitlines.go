package filter

import (
	"errors"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/minutely"
)

// limitLines let one line a minute into the log about each limit that whoever sends
// mail, or answers for amavisd, can go beyond as often as he likes. The message's own
// line is not among them.
type limitLines struct{ header, request, reply, room minutely.Cases }

// of returns the cases that a failure is one of; nil: it is told each time. A limit that
// is told by who counts it is not here, see isLimit.
func (l *limitLines) of(f *failure) *minutely.Cases {
	switch {
	case isLimit(f):
		return nil
	case f.cause == causeHeader:
		return &l.header
	case f.cause == causeRequest && errors.Is(f.err, ampdp.ErrRequestTooLarge):
		return &l.request
	case f.cause == CauseMalformed && errors.Is(f.err, ampdp.ErrTooLarge):
		return &l.reply
	case f.cause == causeRoom:
		return &l.room
	}
	return nil
}
