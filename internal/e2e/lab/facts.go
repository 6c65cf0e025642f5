package lab

import (
	"crypto/tls"
	"net"
	"strings"
)

// Port is the TCP port from which the client has connected.
func (c *Client) Port() int { return c.conn.LocalAddr().(*net.TCPAddr).Port }

// TLS returns the version and the cipher suite of the encrypted connection, as
// OpenSSL names them; empty without STARTTLS.
func (c *Client) TLS() (version, cipher string) {
	conn, ok := c.conn.(*tls.Conn)
	if !ok {
		return "", ""
	}
	state := conn.ConnectionState()
	return strings.ReplaceAll(tls.VersionName(state.Version), "TLS ", "TLSv"), tls.CipherSuiteName(state.CipherSuite)
}
