package ampdptest

import (
	"bufio"
	"io"
	"net"
)

// Conn is one connection of a client to a Server.
type Conn struct {
	net.Conn
	server *Server
	done   <-chan struct{}
	reader *bufio.Reader
	unread *Request // read already, to be read again
}

// ReadRequest reads the next request to its end and records it with the server.
// It returns io.EOF if the client closed between requests.
func (c *Conn) ReadRequest() (*Request, error) {
	if r := c.unread; r != nil {
		c.unread = nil
		return r, nil
	}
	var raw []byte
	for {
		line, err := c.reader.ReadBytes('\n')
		raw = append(raw, line...)
		if err != nil && len(raw) > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if endOfRequest.Match(line) {
			break
		}
	}
	request, err := DecodeRequest(raw)
	if err != nil {
		return nil, err
	}
	c.server.record(request)
	return request, nil
}

// Unread has the next ReadRequest return r again, without recording it a second
// time: for handlers that look at a request and leave the answer to another one.
func (c *Conn) Unread(r *Request) { c.unread = r }

// Send writes s in one write.
func (c *Conn) Send(s string) error {
	_, err := io.WriteString(c.Conn, s)
	return err
}

// WaitClosed waits until the client closes the connection, or the server stops.
func (c *Conn) WaitClosed() { io.Copy(io.Discard, c.reader) }

// Done is closed when the server stops.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Reset closes the connection so that the client's next read or write fails with
// ECONNRESET. On a local socket that takes a request of which something is still
// unread.
func (c *Conn) Reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Conn.Close()
}

// awaitByte waits for the first byte of a request and takes in no more of it.
func (c *Conn) awaitByte() error {
	_, err := io.ReadFull(c.Conn, make([]byte, 1))
	return err
}
