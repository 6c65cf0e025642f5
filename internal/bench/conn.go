package bench

import (
	"bytes"
	"encoding/hex"
	"time"

	"golang.org/x/sys/unix"
)

// phase is what a connection is in.
type phase uint8

const (
	idle phase = iota
	negotiating
	greeted // in its greeting
	sending // in a message
)

// conn is one connection of the MTA to the milter. Only the loop's thread uses it.
type conn struct {
	load  *Load
	fd    int // -1 if there is none
	life  int // how many descriptors there were before it
	phase phase
	terms terms

	bursts  []burst  // of what is said now
	at      int      // the one under way
	rest    [][]byte // of it, not written yet
	blocked bool     // the socket takes no more
	talk    []burst  // those of a message
	in      []byte   // read, without the end of a frame
	answer  answer
	began   time.Duration // the message
	waits   int           // for answers, of this message
	sent    int           // messages on this connection
}

// abort is what an MTA sends after each message. Postfix leaves it in its buffer until
// there is more to send (milter8.c milter8_abort), sendmail writes it at once.
var abort = appendFrame(nil, cmdAbort)

// open connects and makes the offer.
func (c *conn) open() error {
	fd, err := c.load.to.connect()
	if err != nil {
		return err
	}
	if err := c.load.loop.add(fd, c); err != nil {
		unix.Close(fd)
		return err
	}
	*c = conn{load: c.load, fd: fd, life: c.life, phase: negotiating, in: c.in[:0]}
	c.load.greeting++
	c.say([]burst{{pieces: [][]byte{c.load.mta.offer()}, event: cmdOptNeg}})
	return nil
}

// close closes the connection; a message that was under way is none any more.
func (c *conn) close() {
	if c.fd < 0 {
		return
	}
	c.become(idle)
	c.load.loop.remove(c.fd)
	c.fd = -1
	c.life++
}

// become changes the phase and keeps account of it.
func (c *conn) become(p phase) {
	count := func(p phase, n int) {
		switch p {
		case negotiating, greeted:
			c.load.greeting += n
		case sending:
			c.load.active += n
		}
	}
	count(c.phase, -1)
	count(p, 1)
	c.phase = p
}

// broken counts what went wrong with a connection and replaces it, unless each is to have
// one message. Between messages it is wrong as well: no MTA has asked for an end.
func (c *conn) broken(kind string) {
	l := c.load
	l.kinds[kind]++
	l.counts.Wrong++
	c.close()
	l.breaks++
	switch {
	case !l.running:
	case l.filling > 0:
		l.fill()
	case l.each:
		l.turn()
	case l.breaks < mostBreaks:
		if err := c.open(); err != nil {
			l.kinds["no new connection"]++
		}
	}
	l.checkQuiet()
}

// next begins a message, if one is to be begun.
func (c *conn) next() {
	l := c.load
	if c.fd < 0 || c.phase != idle || !l.running || l.left == 0 {
		return
	}
	if l.left > 0 {
		l.left--
	}
	c.become(sending)
	l.nextID++
	var id [len(queueID)]byte
	n := l.nextID
	hex.Encode(id[:], []byte{byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	for i := range c.talk {
		for _, place := range c.talk[i].ids {
			copy(place, id[:])
		}
	}
	c.answer, c.waits = answer{}, 0
	c.began = now()
	c.say(c.talk)
}

// say writes bursts, each when the answer to the one before has come.
func (c *conn) say(bursts []burst) {
	c.bursts, c.at = bursts, -1
	c.goOn()
}

// goOn writes the next burst, and those behind it until an answer is due.
func (c *conn) goOn() {
	for {
		c.at++
		if c.at == len(c.bursts) {
			c.said()
			return
		}
		c.rest = append(c.rest[:0], c.bursts[c.at].pieces...)
		if c.at == 0 && c.phase == sending && c.sent == 0 && !c.load.mta.EachFrame {
			c.rest[0] = c.rest[0][len(abort):] // there is nothing to abort yet
		}
		if !c.push() || c.awaits() {
			return
		}
	}
}

// awaits reports whether an answer to the burst under way is due, and counts it.
func (c *conn) awaits() bool {
	if c.bursts[c.at].event == 0 {
		return false
	}
	c.waits++
	return true
}

// push writes what is left of a burst; it reports whether nothing is.
func (c *conn) push() bool {
	for len(c.rest) > 0 {
		n, errno := writev(c.fd, c.rest)
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if !c.blocked {
				c.blocked = true
				c.load.loop.wantWrite(c.fd, true)
			}
			return false
		default:
			c.broken("the milter hung up: " + errno.Error())
			return false
		}
		for n > 0 && n >= len(c.rest[0]) {
			n -= len(c.rest[0])
			c.rest = c.rest[1:]
		}
		if n > 0 {
			c.rest[0] = c.rest[0][n:]
		}
	}
	if c.blocked {
		c.blocked = false
		c.load.loop.wantWrite(c.fd, false)
	}
	return true
}

// ready goes on with what the socket is ready for.
func (c *conn) ready(events uint32) {
	if c.blocked && events&unix.EPOLLOUT != 0 && c.push() && !c.awaits() {
		c.goOn()
	}
	if c.fd < 0 || events&^unix.EPOLLOUT == 0 {
		return
	}
	n, errno := read(c.fd, c.load.scratch)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
	case errno != 0:
		c.broken("the milter hung up: " + errno.Error())
	case n == 0:
		c.broken("the milter hung up")
	default:
		c.heard(c.load.scratch[:n])
	}
}

// heard takes what was read.
func (c *conn) heard(p []byte) {
	// What is the same, byte for byte, as an answer that was right is right.
	if len(c.in) == 0 && c.phase == sending && c.awaitsNow(cmdEOM) && bytes.Equal(p, c.load.right) {
		c.done("")
		return
	}
	if len(c.in) > 0 {
		c.in = append(c.in, p...)
		p = c.in
	}
	// Only an answer that has come as one is remembered.
	var whole []byte
	if len(c.in) == 0 && c.answer == (answer{}) {
		whole = p
	}
	for life := c.life; len(p) > 0; {
		data, n, err := frame(p)
		if err != nil {
			c.broken(err.Error())
			return
		}
		if n == 0 {
			break
		}
		p = p[n:]
		if len(p) > 0 && data[0] != ansAddHeader && data[0] != ansInsHeader && data[0] != ansChgHeader {
			whole = nil
		}
		if c.phase == sending && c.awaitsNow(cmdEOM) {
			c.end(data, whole)
		} else {
			c.hear(data)
		}
		if c.life != life {
			return
		}
	}
	c.in = append(c.in[:0], p...)
}

// awaitsNow reports whether the answer to an event is due.
func (c *conn) awaitsNow(event byte) bool {
	return c.at >= 0 && c.at < len(c.bursts) && c.bursts[c.at].event == event && len(c.rest) == 0
}

// end takes a frame of the answer to the end of a message; whole is all of that if it
// came as one.
func (c *conn) end(data, whole []byte) {
	wrong := c.load.edits.take(&c.answer, data, c.terms)
	switch {
	case wrong != "" && c.answer.verdict == 0:
		c.broken(wrong)
	case c.answer.verdict != 0:
		// Messages of one load get the same answer, and so the bytes may be remembered.
		if wrong == "" && whole != nil {
			c.load.right = append(c.load.right[:0], whole...)
		}
		c.done(wrong)
	}
}

// hear takes any other answer.
func (c *conn) hear(data []byte) {
	switch {
	case c.phase == idle || len(c.rest) > 0 || c.at >= len(c.bursts) || c.bursts[c.at].event == 0:
		c.broken("an answer that nobody asked for")
	case c.phase == negotiating:
		c.agreed(data)
	case data[0] == ansContinue:
		c.goOn()
	case data[0] == ansSkip && c.phase == sending:
		// No more of this: the next is the end of the message, or another event.
		for event := c.bursts[c.at].event; c.at+1 < len(c.bursts) && c.bursts[c.at+1].event == event; {
			c.at++
		}
		c.goOn()
	default:
		c.broken("before the end of a message: answer " + string(data[0]))
	}
}

// agreed takes the answer to the offer and greets.
func (c *conn) agreed(data []byte) {
	l := c.load
	t, err := l.mta.agree(data)
	if err != nil {
		c.broken(err.Error())
		return
	}
	c.terms = t
	c.talk = l.mail.dialogue(&l.mta, t, &l.shared)
	c.become(greeted)
	c.say(greeting(&l.mta, t))
}

// said is called when all bursts are written and none awaits an answer: that is the end of
// a greeting, since that of a message awaits one.
func (c *conn) said() {
	c.become(idle)
	c.next()
	c.load.checkQuiet()
}

// done counts a message and begins the next.
func (c *conn) done(wrong string) {
	l := c.load
	l.counts.Messages++
	l.counts.Waits += c.waits
	if wrong != "" {
		l.counts.Wrong++
		l.kinds[wrong]++
	}
	if len(l.lat) < cap(l.lat) {
		l.lat = append(l.lat, now()-c.began)
	}
	c.become(idle)
	c.sent++
	if l.mta.EachFrame {
		write(c.fd, abort)
	}
	if l.PerConn > 0 && c.sent >= l.PerConn {
		write(c.fd, quit)
		c.close()
		if err := c.open(); err != nil {
			l.kinds["no new connection"]++
			l.counts.Wrong++
		}
	} else if l.left < 0 {
		c.next()
	} else if l.filling > 0 {
		l.fill()
	} else {
		l.turn()
	}
	l.checkQuiet()
}

var quit = appendFrame(nil, cmdQuit)
