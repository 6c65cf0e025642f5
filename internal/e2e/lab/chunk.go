package lab

import "fmt"

// Chunk sends a part of a message by BDAT (RFC 3030), as it is, the last one or not,
// and returns the reply.
func (c *Client) Chunk(content []byte, last bool) (Reply, error) {
	if err := c.Write(BDAT(content, last)); err != nil {
		return Reply{}, err
	}
	c.Transcript = append(c.Transcript, fmt.Sprintf("C: BDAT (%d bytes, last: %t)", len(content), last))
	return c.ReadReply()
}

// BDAT returns a BDAT command with its chunk.
func BDAT(content []byte, last bool) []byte {
	mark := ""
	if last {
		mark = " LAST"
	}
	return append(fmt.Appendf(nil, "BDAT %d%s\r\n", len(content), mark), content...)
}
