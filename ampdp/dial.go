package ampdp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"
)

// dial opens the connection. A local socket is connected to directly: connect does
// not wait there, so it needs neither a resolver nor a timer.
func (x *exchange) dial() (net.Conn, error) {
	c := x.client
	if c.Dial == nil && c.Network == "unix" {
		return dialLocal(x.ctx, c.Address)
	}
	ctx, cancel := context.WithDeadline(x.ctx, x.connectDeadline())
	defer cancel()
	if c.Dial != nil {
		return c.Dial(ctx, c.Network, c.Address)
	}
	return new(net.Dialer).DialContext(ctx, c.Network, c.Address)
}

func (x *exchange) connectDeadline() time.Time {
	timeout := x.client.ConnectTimeout
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	deadline := x.start.Add(timeout)
	if !x.deadline.IsZero() && x.deadline.Before(deadline) {
		return x.deadline
	}
	return deadline
}

// ownShortage are the errors of a connect for which the scanner is not to blame.
var ownShortage = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.EAGAIN}

const connecting = "connecting" // what an Error says was done

// noTimeLeft makes the Error for a context that was done before the connect.
func (x *exchange) noTimeLeft() error {
	cause := context.Cause(x.ctx)
	if errors.Is(x.ctx.Err(), context.Canceled) {
		return x.failure(connecting, cause, false)
	}
	return &Error{Cause: CauseUnavailable, Address: x.client.target(), Err: fmt.Errorf("%s: no time left for it: %w", connecting, cause)}
}

// dialFailure makes the Error for a connect that failed. No byte of the request was
// sent, so no kind of it is CauseTimeout, nor is noTimeLeft: another scanner may be
// asked.
func (x *exchange) dialFailure(err error) error {
	c := x.client
	if errors.Is(x.ctx.Err(), context.Canceled) {
		return x.failure(connecting, err, false)
	}
	e := &Error{Cause: CauseUnavailable, Refused: true, Address: c.target()}
	err = withoutOp(err)
	switch {
	case x.expired(err):
		// The caller's own deadline tells nothing about the host: it may have left
		// the connect no time.
		own, ok := x.ctx.Deadline()
		e.Refused = !ok || time.Now().Before(own)
		err = fmt.Errorf("no answer within %v: %w", time.Since(x.start).Round(time.Millisecond), err)
	case c.Network == "unix" && errors.Is(err, syscall.EAGAIN):
		e.Cause, e.Refused = CauseBusy, false
		err = fmt.Errorf("%w: its backlog is full, more clients wait than its children can serve", err)
	case slices.ContainsFunc(ownShortage, func(target error) bool { return errors.Is(err, target) }):
		e.Refused, e.NoMeans = false, true
		if errors.Is(err, syscall.EMFILE) {
			err = fmt.Errorf("%w: raise this program's limit on open files (LimitNOFILE, ulimit -n)", err)
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("%w: nobody listens there, is amavisd running?", err)
	case errors.Is(err, syscall.ENOENT):
		err = fmt.Errorf("%w: is amavisd running, and is this its $unix_socketname?", err)
	case c.Network == "unix" && errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%w: %s", err, missingPermission(c.Address))
	}
	e.Err = fmt.Errorf("%s: %w", connecting, err)
	return e
}
