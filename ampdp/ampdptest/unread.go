package ampdptest

// Unread has the next ReadRequest return r again, without recording it a second
// time: for handlers that look at a request and leave the answer to another one.
func (c *Conn) Unread(r *Request) { c.unread = r }
