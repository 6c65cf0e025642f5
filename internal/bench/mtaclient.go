package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"time"
)

// smtpTimeout bounds the wait for one reply of an MTA.
const smtpTimeout = time.Minute

// smtpTimes is how long one message took its client.
type smtpTimes struct {
	session     time.Duration // from connect to the reply to the message; zero unless it is the connection's first
	transaction time.Duration // from MAIL to the reply to the message
	end         time.Duration // from the write that has the message and the final dot to the reply
}

// smtpClient is an SMTP client that pipelines nothing: each command waits for the reply
// to the one before.
type smtpClient struct {
	conn  net.Conn
	in    *bufio.Reader
	began time.Time // of the connection; zero once it is not new any more
}

// dialSMTP connects and says EHLO.
func dialSMTP(address string) (*smtpClient, error) {
	c := &smtpClient{began: time.Now()}
	var err error
	if c.conn, err = net.DialTimeout("tcp", address, smtpTimeout); err != nil {
		return nil, err
	}
	c.in = bufio.NewReader(c.conn)
	if err = c.expect(220); err == nil {
		err = c.say("EHLO client.remote.test\r\n", 250)
	}
	if err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

// send sends one message, already dot-stuffed and with its final dot.
func (c *smtpClient) send(message []byte) (times smtpTimes, err error) {
	began := time.Now()
	for _, command := range []struct {
		line string
		code int
	}{
		{"MAIL FROM:<someone@remote.test>\r\n", 250},
		{"RCPT TO:<user@lab.test>\r\n", 250},
		{"DATA\r\n", 354},
	} {
		if err := c.say(command.line, command.code); err != nil {
			return times, err
		}
	}
	dot := time.Now()
	if err := c.write(message); err != nil {
		return times, err
	}
	if err := c.expect(250); err != nil {
		return times, err
	}
	done := time.Now()
	times.end, times.transaction = done.Sub(dot), done.Sub(began)
	if !c.began.IsZero() {
		times.session, c.began = done.Sub(c.began), time.Time{}
	}
	return times, nil
}

// quit ends the connection. It waits for the MTA to close it, so that nothing of its end
// falls on the next one.
func (c *smtpClient) quit() error {
	defer c.conn.Close()
	if err := c.say("QUIT\r\n", 221); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(smtpTimeout))
	if b, err := c.in.ReadByte(); err == nil {
		return fmt.Errorf("%q after the reply to QUIT", b)
	}
	return nil
}

func (c *smtpClient) say(line string, code int) error {
	if err := c.write([]byte(line)); err != nil {
		return err
	}
	if err := c.expect(code); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	return nil
}

func (c *smtpClient) write(p []byte) error {
	c.conn.SetDeadline(time.Now().Add(smtpTimeout))
	_, err := c.conn.Write(p)
	return err
}

// expect reads one reply, of several lines if need be, which must have this code.
func (c *smtpClient) expect(code int) error {
	want := fmt.Sprint(code)
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("reading a reply: %w", err)
		}
		if len(line) < 4 || string(line[:3]) != want {
			return fmt.Errorf("replied %q, not %d", bytes.TrimSpace(line), code)
		}
		if line[3] != '-' {
			return nil
		}
	}
}
