package ampdptest

import "sync/atomic"

// Handler plays amavisd on one connection. The connection is closed when it
// returns; Conn.Done tells a waiting one that the server stops.
type Handler func(c *Conn)

// Reply answers every request with these lines (see Line), each with CR LF, and an
// empty line, in one write, and waits for the client to close, as amavisd does.
func Reply(lines ...string) Handler { return Raw(Lines(lines...)) }

// Continue answers like amavisd to a clean mail, with these edits (see Line).
func Continue(edits ...string) Handler {
	lines := []string{"version_server=2", "log_id=01234-01", Line("setreply", "250", "2.6.0", "Ok, id=01234-01, continue delivery")}
	lines = append(lines, edits...)
	return Reply(append(lines, "return_value=continue", "exit_code=0")...)
}

// Verdict answers with a return value and the reply for the SMTP client.
func Verdict(returnValue, code, enhanced, text string) Handler {
	return Reply("version_server=2", "log_id=01234-01", Line("setreply", code, enhanced, text), "return_value="+returnValue)
}

// Raw answers every request with these very bytes and waits for the client to
// close, or for its next request.
func Raw(reply string) Handler {
	return func(c *Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil {
				return
			}
			if c.Send(reply) != nil {
				return
			}
		}
	}
}

// RawThenHangUp answers one request with these very bytes and closes.
func RawThenHangUp(reply string) Handler {
	return func(c *Conn) {
		if _, err := c.ReadRequest(); err == nil {
			c.Send(reply)
		}
	}
}

// RawThenReset sends these bytes and then resets the connection.
func RawThenReset(reply string) Handler {
	return func(c *Conn) {
		if c.awaitByte() == nil {
			c.Send(reply)
			c.Reset()
		}
	}
}

// Bytewise answers one request with these very bytes, each in a write of its own,
// and waits for the client to close.
func Bytewise(reply string) Handler {
	return func(c *Conn) {
		if _, err := c.ReadRequest(); err != nil {
			return
		}
		for i := range len(reply) {
			if c.Send(reply[i:i+1]) != nil {
				return
			}
		}
		c.WaitClosed()
	}
}

// Hang reads the request and never answers.
func Hang() Handler {
	return func(c *Conn) {
		if _, err := c.ReadRequest(); err == nil {
			c.WaitClosed()
		}
	}
}

// Deaf reads nothing and waits for the server to stop.
func Deaf() Handler { return func(c *Conn) { <-c.Done() } }

// HangUp reads the request and closes without an answer.
func HangUp() Handler { return RawThenHangUp("") }

// CloseAtOnce closes before it has read anything.
func CloseAtOnce() Handler { return func(*Conn) {} }

// Reset waits for the first byte of a request and resets the connection.
func Reset() Handler { return RawThenReset("") }

// Hold reads the request, so that it is recorded, waits until release is closed,
// and goes on with h.
func Hold(release <-chan struct{}, h Handler) Handler {
	return func(c *Conn) {
		request, err := c.ReadRequest()
		if err != nil {
			return
		}
		select {
		case <-release:
			c.Unread(request)
			h(c)
		case <-c.Done():
		}
	}
}

// Script plays one handler for each connection, in this order; the last one stays.
func Script(handlers ...Handler) Handler {
	var next atomic.Int64
	return func(c *Conn) {
		n := min(next.Add(1), int64(len(handlers)))
		handlers[n-1](c)
	}
}
