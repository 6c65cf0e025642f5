package ampdp

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// DefaultConnectTimeout is the default of Client.ConnectTimeout.
	DefaultConnectTimeout = 10 * time.Second

	// keptRequestBytes is the largest request buffer that is kept for the next
	// request, in bytes: one of a thousand recipients should not stay for ever.
	keptRequestBytes = 64 << 10
)

// Client sends requests to one amavisd. Its fields must not change while it is in
// use; Do may be called by many goroutines at once. A Client holds no connection
// and needs no closing.
type Client struct {
	// Network is "unix" or "tcp" ("tcp4", "tcp6"), Address a path or host:port.
	// AM.PDP carries the path of a mail, not the mail: over TCP, too, both ends
	// need the same file system.
	Network, Address string

	// Timeout bounds one call of Do, from the connect to the end of the reply;
	// 0 leaves that to the context.
	Timeout time.Duration

	// ConnectTimeout bounds the connect alone, so that a dead host does not use up
	// Timeout. 0 is DefaultConnectTimeout. A connect that takes longer, or longer
	// than Timeout, is CauseUnavailable. A local socket never waits there.
	ConnectTimeout time.Duration

	// Limits bounds the reply.
	Limits Limits

	// Room bounds what all replies of the Clients that share it hold together; nil is
	// no bound. Each Reply is then to be given back by its Release. A reply that
	// finds no room is CauseNoRoom.
	Room *Room

	// Dial makes the connections instead of package net if it is not nil. Its
	// context has the earliest of all deadlines.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Do sends req over a connection of its own, with a single write, reads the reply
// to its end, checks it, and closes the connection. It returns as soon as ctx is
// done. It returns either a reply or an error, which always is an *Error.
func (c *Client) Do(ctx context.Context, req *Request) (*Reply, error) {
	buffer := requestBuffers.Get().(*[]byte)
	defer releaseRequestBuffer(buffer)
	encoded, err := req.AppendTo((*buffer)[:0])
	if err != nil {
		return nil, &Error{Cause: CauseRequest, Address: c.target(), Err: err}
	}
	*buffer = encoded

	x := newExchange(ctx, c)
	if err := x.connect(); err != nil {
		return nil, err
	}
	defer x.close()
	reply, err := x.ask(encoded)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// Probe connects and hangs up. Its nil error tells that somebody listens; otherwise
// it is the *Error that Do would have returned.
func (c *Client) Probe(ctx context.Context) error {
	x := newExchange(ctx, c)
	if err := x.connect(); err != nil {
		return err
	}
	x.close()
	return nil
}

// target names the scanner in errors.
func (c *Client) target() string { return c.Network + ":" + c.Address }

var requestBuffers = sync.Pool{New: func() any { return new([]byte) }}

func releaseRequestBuffer(buffer *[]byte) {
	if cap(*buffer) <= keptRequestBytes {
		requestBuffers.Put(buffer)
	}
}
