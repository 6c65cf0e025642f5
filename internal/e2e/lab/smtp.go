package lab

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// smtpTimeout bounds the wait for one SMTP reply; it is longer than any wait of
// the milter's.
const smtpTimeout = 2 * time.Minute

// Reply is one SMTP reply as it came, without the line ends.
type Reply struct {
	Code  int
	Lines []string // each with its code
}

// String returns the reply, its lines joined by LF.
func (r Reply) String() string { return strings.Join(r.Lines, "\n") }

// Client is an SMTP client that reports every reply exactly.
type Client struct {
	conn       net.Conn
	in         *bufio.Reader
	Transcript []string // what was said: "C: …" and "S: …", data left out
}

// DialSMTP connects from one of the lab's addresses to an SMTP server and takes
// its greeting.
func DialSMTP(from, to string) (*Client, Reply, error) {
	dialer := net.Dialer{Timeout: smtpTimeout}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		return nil, Reply{}, fmt.Errorf("connecting to the MTA: %w", err)
	}
	c := &Client{conn: conn, in: bufio.NewReader(conn)}
	greeting, err := c.ReadReply()
	if err != nil {
		conn.Close()
		return nil, Reply{}, fmt.Errorf("reading the greeting: %w", err)
	}
	return c, greeting, nil
}

// Command sends one command line and returns the reply.
func (c *Client) Command(line string) (Reply, error) {
	replies, err := c.Pipeline(line)
	if err != nil {
		return Reply{}, err
	}
	return replies[0], nil
}

// Pipeline sends several command lines in one write and returns their replies
// (RFC 2920).
func (c *Client) Pipeline(lines ...string) ([]Reply, error) {
	for _, line := range lines {
		c.Transcript = append(c.Transcript, "C: "+line)
	}
	if err := c.Write([]byte(strings.Join(lines, "\r\n") + "\r\n")); err != nil {
		return nil, err
	}
	var replies []Reply
	for range lines {
		reply, err := c.ReadReply()
		if err != nil {
			return replies, fmt.Errorf("reading a reply: %w", err)
		}
		replies = append(replies, reply)
	}
	return replies, nil
}

// Data sends a message, dots stuffed, with the line of one dot, and returns the
// reply. The MTA must have answered DATA with 354.
func (c *Client) Data(message []byte) (Reply, error) {
	c.Transcript = append(c.Transcript, fmt.Sprintf("C: (the message, %d bytes)", len(message)))
	stuffed := append(Stuff(message), ".\r\n"...)
	if err := c.Write(stuffed); err != nil {
		return Reply{}, err
	}
	return c.ReadReply()
}

// StartTLS encrypts the connection (RFC 3207); any certificate will do. The client
// must say EHLO anew.
func (c *Client) StartTLS() error {
	reply, err := c.Command("STARTTLS")
	if err != nil || reply.Code != 220 {
		return fmt.Errorf("STARTTLS: reply %q, error %w", reply, err)
	}
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.conn.SetDeadline(time.Now().Add(smtpTimeout))
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("STARTTLS: %w", err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	return nil
}

// Authenticate authenticates as [User] by AUTH PLAIN (RFC 4616) and returns the
// reply.
func (c *Client) Authenticate() (Reply, error) {
	response := "\x00" + User + "\x00" + Password
	return c.Command("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte(response)))
}

// Write sends bytes as they are.
func (c *Client) Write(p []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(smtpTimeout))
	_, err := c.conn.Write(p)
	return err
}

// ReadReply reads one reply, of several lines if need be.
func (c *Client) ReadReply() (Reply, error) {
	c.conn.SetReadDeadline(time.Now().Add(smtpTimeout))
	var reply Reply
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return reply, err
		}
		line = strings.TrimRight(line, "\r\n")
		reply.Lines = append(reply.Lines, line)
		c.Transcript = append(c.Transcript, "S: "+line)
		if _, err := fmt.Sscanf(line, "%3d", &reply.Code); err != nil {
			return reply, fmt.Errorf("not an SMTP reply: %q", line)
		}
		if len(line) < 4 || line[3] != '-' {
			return reply, nil
		}
	}
}

// Close hangs up without QUIT.
func (c *Client) Close() error { return c.conn.Close() }

// Quit says goodbye and hangs up.
func (c *Client) Quit() error {
	_, err := c.Command("QUIT")
	return errors.Join(err, c.conn.Close())
}

// Stuff doubles the dots at the beginning of lines (RFC 5321 section 4.5.2) and
// ends the last line.
func Stuff(message []byte) []byte {
	stuffed := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(stuffed, []byte(".")) {
		stuffed = append([]byte("."), stuffed...)
	}
	if !bytes.HasSuffix(stuffed, []byte("\r\n")) {
		stuffed = append(bytes.Clone(stuffed), "\r\n"...)
	}
	return stuffed
}
