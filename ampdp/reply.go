package ampdp

import (
	"fmt"
	"io"
)

// ReturnValue is what is to become of the message ("return_value"). The zero value
// is none; a Reply always has one of the constants.
type ReturnValue string

// The return values of README.protocol.
const (
	Continue ReturnValue = "continue" // let the message pass, with the edits made
	Accept   ReturnValue = "accept"   // let it pass at once, with the edits made
	Reject   ReturnValue = "reject"   // refuse it for good
	Discard  ReturnValue = "discard"  // take it and drop it; amavisd has seen to it
	TempFail ReturnValue = "tempfail" // refuse it for now
)

func (v ReturnValue) valid() bool {
	switch v {
	case Continue, Accept, Reject, Discard, TempFail:
		return true
	}
	return false
}

// SetReply is the reply that amavisd suggests for the SMTP client ("setreply").
// amavisd also sends one with continue and discard. After an error of its own its
// Text can hold paths of the scanning host.
type SetReply struct {
	Code     int    // 100 to 599; nothing says that it goes with the return value
	Enhanced string // such as "5.7.1", not checked
	Text     string // may be empty, may hold any bytes
}

// Reply is a whole, checked reply.
type Reply struct {
	VersionServer int         // "version_server"; 1 if absent or no number
	LogID         string      // "log_id": the id of this message in amavisd's log; may be empty
	ReturnValue   ReturnValue // "return_value", never the zero value
	SetReply      *SetReply   // nil if absent; the last one if there are several
	Edits         []Edit      // in the order of the reply
	// Unknown holds the attributes that this package does not understand
	// (replacebody, which is reserved, is among them): the first MaxUnknown, each
	// cut to MaxUnknownName and MaxUnknownValue bytes.
	Unknown []Attribute

	share share // of Client.Room
}

// Release gives back what the reply has taken of Client.Room, when neither it nor
// anything of its edits is in use any more. Without a Room it does nothing, nor does it
// on nil or a second time.
func (r *Reply) Release() {
	if r != nil {
		r.share.release()
	}
}

// ReadReply reads one reply up to its empty line, decodes and checks it. Any way
// in which the bytes arrive gives the same result. What follows the empty line is
// no part of the reply: if r is a *bufio.Reader it remains in there, else some of
// it may have been read and is lost.
//
// The errors wrap ErrNoReply, ErrTruncated, ErrMalformed, ErrTooLarge, or the
// error of r, and name the line.
func ReadReply(r io.Reader, limits Limits) (*Reply, error) {
	lines := newLineReader(r, limits)
	reply, err := readReply(lines)
	if err != nil {
		return nil, fmt.Errorf("reading the reply: %w", err)
	}
	return reply, nil
}

func readReply(lines *lineReader) (*Reply, error) {
	p := newParser(&lines.share)
	for n := 1; ; n++ {
		line, err := lines.next()
		if err != nil && !lines.seen() {
			return nil, err
		}
		if err != nil {
			return nil, atLine(n, err)
		}
		if len(line) == 0 {
			break
		}
		if n > lines.limits.Attributes {
			return nil, atLine(n, fmt.Errorf("%w: more than %d attributes", ErrTooLarge, lines.limits.Attributes))
		}
		if err := p.line(line); err != nil {
			return nil, atLine(n, err)
		}
	}
	if p.reply.ReturnValue == "" {
		return nil, fmt.Errorf("%w: it has no return_value", ErrMalformed)
	}
	p.reply.share, lines.share = lines.share, share{}
	return p.reply, nil
}

func atLine(n int, err error) error { return fmt.Errorf("line %d: %w", n, err) }
