package ampdp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// exchange is one call of Client.Do: one connection, one request, one reply.
type exchange struct {
	ctx      context.Context
	client   *Client
	start    time.Time
	deadline time.Time // the earlier of Client.Timeout and the context's; zero: none
	conn     net.Conn
	unwatch  func() bool // ends the watch over ctx
	sent     bool        // the whole request was written
}

func newExchange(ctx context.Context, c *Client) *exchange {
	x := &exchange{ctx: ctx, client: c, start: time.Now()}
	if c.Timeout > 0 {
		x.deadline = x.start.Add(c.Timeout)
	}
	if d, ok := ctx.Deadline(); ok && (x.deadline.IsZero() || d.Before(x.deadline)) {
		x.deadline = d
	}
	return x
}

// connect opens the connection and sees to it that it ends with ctx.
func (x *exchange) connect() error {
	if x.ctx.Err() != nil {
		return x.noTimeLeft()
	}
	conn, err := x.dial()
	if err != nil {
		return x.dialFailure(err)
	}
	x.conn = conn
	// In this order: the watch must have the last word on the deadline.
	if !x.deadline.IsZero() {
		conn.SetDeadline(x.deadline)
	}
	x.unwatch = context.AfterFunc(x.ctx, func() { conn.SetDeadline(longAgo) })
	return nil
}

func (x *exchange) close() {
	x.unwatch()
	x.conn.Close()
}

// ask writes the request and reads the reply.
func (x *exchange) ask(request []byte) (reply *Reply, err error) {
	n, err := x.conn.Write(request)
	x.sent = n == len(request)
	if err != nil {
		return nil, x.writeFailure(err)
	}

	buffered := replyBuffers.Get().(*bufio.Reader)
	buffered.Reset(x.conn)
	lines := newLineReader(buffered, x.client.Limits)
	lines.share.room = x.client.Room
	defer func() {
		lines.share.release() // a reply that came about has it now
		buffered.Reset(nil)
		replyBuffers.Put(buffered)
	}()
	reply, err = readReply(lines)
	switch {
	case err == nil:
		return reply, nil
	case lines.seen():
		return nil, x.failure("reading the reply", err, true)
	}
	return nil, x.failure("waiting for the reply", err, false)
}

var replyBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// writeFailure explains a request that could not be written. An answer to half a
// request is no answer to this message (amavisd may have read half of the
// recipients), so it is never used; it only shows that this is not amavisd on its
// way out, but a peer that does not keep to the protocol.
func (x *exchange) writeFailure(err error) error {
	const doing = "sending the request"
	if x.expired(err) {
		return x.failure(doing, err, false)
	}
	var first [1]byte
	if n, _ := x.conn.Read(first[:]); n > 0 {
		return x.failure(doing, fmt.Errorf("%w: it came before the end of the request: %w", ErrMalformed, err), true)
	}
	return x.failure(doing, err, false)
}

// expired reports whether err is only how the connection shows that the time is
// up or that ctx is done.
func (x *exchange) expired(err error) bool {
	return x.ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// failure makes the Error for what happened on a connection, or before there was
// one; replied says whether any byte of a reply has come.
func (x *exchange) failure(doing string, err error, replied bool) error {
	e := &Error{Address: x.client.target(), RequestSent: x.sent}
	switch {
	case errors.Is(x.ctx.Err(), context.Canceled):
		e.Cause, err = CauseCanceled, context.Cause(x.ctx)
	case x.expired(err):
		e.Cause = CauseTimeout
		if x.ctx.Err() != nil {
			err = context.Cause(x.ctx)
		}
		err = fmt.Errorf("given up after %v: %w", time.Since(x.start).Round(time.Millisecond), withoutOp(err))
	case errors.Is(err, ErrNoRoom):
		e.Cause = CauseNoRoom
	case replied:
		e.Cause = CauseMalformed
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrTruncated) {
			err = fmt.Errorf("%w: %w", ErrTruncated, withoutOp(err)) // reset in the middle
		}
	default:
		e.Cause = CauseUnavailable
		err = withoutOp(err)
	}
	e.Err = fmt.Errorf("%s: %w", doing, err)
	return e
}

// withoutOp takes the addresses off an error of package net, which repeat what
// Error.Address says.
func withoutOp(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
